/* SPDX-License-Identifier: BSD-3-Clause */
/* corrupt.c - a transport that delivers wrong data, for the tests of --check.
 *
 * Preloaded into an MPI program. The call that PW_CORRUPT_CALL names carries its
 * message with byte PW_CORRUPT_BYTE flipped; messages that have no such byte go
 * unharmed. MPI_Recv flips it in memory, behind a message too, if not empty. A
 * MPI_Barrier that is named does not wait.
 */
#include <mpi.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))

static long byte_to_flip(const char *call)
{
    const char *wanted = getenv("PW_CORRUPT_CALL"), *byte = getenv("PW_CORRUPT_BYTE");

    return wanted && byte && !strcmp(wanted, call) ? atol(byte) : -1;
}

static void flip(const void *buf, int count, long at)
{
    if (at >= 0 && at < count)
        ((unsigned char *)(uintptr_t)buf)[at] ^= 0x10;
}

EXPORT int MPI_Send(const void *buf, int count, MPI_Datatype type, int dest, int tag,
                    MPI_Comm comm)
{
    flip(buf, count, byte_to_flip("MPI_Send"));
    return PMPI_Send(buf, count, type, dest, tag, comm);
}

EXPORT int MPI_Isend(const void *buf, int count, MPI_Datatype type, int dest, int tag,
                     MPI_Comm comm, MPI_Request *request)
{
    flip(buf, count, byte_to_flip("MPI_Isend"));
    return PMPI_Isend(buf, count, type, dest, tag, comm, request);
}

EXPORT int MPI_Recv(void *buf, int count, MPI_Datatype type, int source, int tag,
                    MPI_Comm comm, MPI_Status *status)
{
    int result = PMPI_Recv(buf, count, type, source, tag, comm, status);
    long at = byte_to_flip("MPI_Recv");

    if (at >= 0 && count > 0)
        ((unsigned char *)buf)[at] ^= 0x10;
    return result;
}

EXPORT int MPI_Put(const void *buf, int count, MPI_Datatype type, int target,
                   MPI_Aint disp, int target_count, MPI_Datatype target_type, MPI_Win win)
{
    flip(buf, count, byte_to_flip("MPI_Put"));
    return PMPI_Put(buf, count, type, target, disp, target_count, target_type, win);
}

EXPORT int MPI_Get(void *buf, int count, MPI_Datatype type, int target, MPI_Aint disp,
                   int target_count, MPI_Datatype target_type, MPI_Win win)
{
    int result = PMPI_Get(buf, count, type, target, disp, target_count, target_type, win);

    PMPI_Win_flush(target, win);
    flip(buf, count, byte_to_flip("MPI_Get"));
    return result;
}

EXPORT int MPI_Fetch_and_op(const void *origin, void *result, MPI_Datatype type, int target,
                            MPI_Aint disp, MPI_Op op, MPI_Win win)
{
    int err = PMPI_Fetch_and_op(origin, result, type, target, disp, op, win);

    PMPI_Win_flush(target, win);
    flip(result, 8, byte_to_flip("MPI_Fetch_and_op"));
    return err;
}

/* What is to be there afterwards. */
EXPORT int MPI_Compare_and_swap(const void *origin, const void *compare, void *result,
                                MPI_Datatype type, int target, MPI_Aint disp, MPI_Win win)
{
    flip(origin, 8, byte_to_flip("MPI_Compare_and_swap"));
    return PMPI_Compare_and_swap(origin, compare, result, type, target, disp, win);
}

EXPORT int MPI_Alltoall(const void *send, int send_count, MPI_Datatype send_type, void *recv,
                        int recv_count, MPI_Datatype recv_type, MPI_Comm comm)
{
    int err = PMPI_Alltoall(send, send_count, send_type, recv, recv_count, recv_type, comm);

    flip(recv, recv_count, byte_to_flip("MPI_Alltoall"));
    return err;
}

EXPORT int MPI_Allreduce(const void *send, void *recv, int count, MPI_Datatype type, MPI_Op op,
                         MPI_Comm comm)
{
    int err = PMPI_Allreduce(send, recv, count, type, op, comm);

    if (type == MPI_UINT8_T)
        flip(recv, count, byte_to_flip("MPI_Allreduce"));
    return err;
}

EXPORT int MPI_Barrier(MPI_Comm comm)
{
    return byte_to_flip("MPI_Barrier") >= 0 ? MPI_SUCCESS : PMPI_Barrier(comm);
}
