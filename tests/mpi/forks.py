# SPDX-License-Identifier: BSD-3-Clause
"""A rank in Python, whose multiprocessing forks it while its messages travel.

No package is needed: MPI is called as a C library. Each round both ranks send a buffer and
receive one; meanwhile a rank's children, forked by multiprocessing, read what it sends and
write all over their copies of both buffers. Prints nothing but what is wrong.

    mpirun -n 2 python3 forks.py ROUNDS
"""
import ctypes
import multiprocessing
import sys

LEN = 2 << 20

mpi = ctypes.CDLL("libmpi.so.40", mode=ctypes.RTLD_GLOBAL)
world = ctypes.byref(ctypes.c_char.in_dll(mpi, "ompi_mpi_comm_world"))
char = ctypes.byref(ctypes.c_char.in_dll(mpi, "ompi_mpi_char"))


def call(name, *args):
    err = getattr(mpi, "MPI_" + name)(*args)
    if err:
        sys.exit("MPI_%s: %d" % (name, err))


def pattern(rank, i):
    return bytes((7 * rank + 13 * i + k) % 251 for k in range(251)) * (LEN // 251 + 1)


def child(out, back, wanted, answers):
    """Runs in a copy of the parent's memory."""
    right = out.raw == wanted
    ctypes.memset(out, 0xEE, LEN)
    ctypes.memset(back, 0xEE, LEN)
    answers.put(right)


def one_round(fork, rank, i, out, back):
    wanted = pattern(rank, i)[:LEN]
    out.raw = wanted
    requests = (ctypes.c_void_p * 2)()
    call("Irecv", back, LEN, char, 1 - rank, i, world, ctypes.byref(requests, 0))
    call("Isend", out, LEN, char, 1 - rank, i, world, ctypes.byref(requests, 8))
    answers = fork.SimpleQueue()
    children = [fork.Process(target=child, args=(out, back, wanted, answers))
                for _ in range(2)]
    for c in children:
        c.start()
    call("Waitall", 2, requests, None)
    for c in children:
        c.join()
        if c.exitcode or not answers.get():
            sys.exit("rank %d, round %d: a child has not what its parent had" % (rank, i))
    if back.raw != pattern(1 - rank, i)[:LEN]:
        sys.exit("rank %d, round %d: not what was sent" % (rank, i))


def main():
    rank = ctypes.c_int()
    call("Init", None, None)
    call("Comm_rank", world, ctypes.byref(rank))
    fork = multiprocessing.get_context("fork")
    out, back = ctypes.create_string_buffer(LEN), ctypes.create_string_buffer(LEN)
    for i in range(int(sys.argv[1])):
        one_round(fork, rank.value, i, out, back)
    call("Finalize")


main()
