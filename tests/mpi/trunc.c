/* SPDX-License-Identifier: BSD-3-Clause */
/* trunc.c - a message longer than the receive buffer.
 *
 * The receiver gets MPI_ERR_TRUNCATE, nothing behind its buffer is touched, the
 * sender ends well, and the messages that follow are right. Sizes take ob1's
 * eager, rendezvous and RGET protocols; expected and unexpected receives.
 *
 * ob1 of Open MPI 4.1 fetches the whole message in RGET, whatever the receive
 * buffer holds (mca_pml_ob1_recv_request_progress_rget takes hdr_msg_length), and
 * no transport can know better. So what lies behind the buffer is looked at only
 * where the sender offers no RGET: malloc'ed memory up to no_rget bytes. The
 * buffer has room for all.
 */
#include "story.h"

#include <unistd.h>

#include <stdlib.h>
#include <string.h>

enum { LARGEST = 4 << 20, GUARD = 256 };

static MPI_Comm comm;       /* MPI_ERRORS_RETURN */
static int no_rget;

static const struct { int sent, room; } cases[] = {
    { 1, 0 }, { 100, 50 }, { 256, 255 }, { 4096, 4095 }, { 5000, 10 }, { 32768, 32767 },
    { 65536, 32768 }, { 262144, 0 }, { 1 << 20, 999 }, { 1 << 20, (1 << 20) - 1 },
    { LARGEST, 5000 }, { LARGEST, LARGEST / 2 },
};

/* Between hosts, and with more ranks on one than cores, what is not eager is fetched. */
static int longest_not_fetched(void)
{
    MPI_Comm host;
    int here;

    MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &host);
    MPI_Comm_size(host, &here);
    MPI_Comm_free(&host);
    return here < size || size > sysconf(_SC_NPROCESSORS_ONLN) ? 16384 - 1 : 65536;
}

static void following(int peer, char *s, char *r)
{
    static const int lens[] = { 8, 70000, 0, 4096 };

    for (int i = 0; i < 4; i++) {
        fill(s, (size_t)lens[i], mix((uint64_t)i, (uint64_t)rank));
        memset(r, 0, (size_t)lens[i]);
        MPI_Sendrecv(s, lens[i], MPI_CHAR, peer, 1, r, lens[i], MPI_CHAR, peer, 1, comm,
                     MPI_STATUS_IGNORE);
        same(r, (size_t)lens[i], mix((uint64_t)i, (uint64_t)peer),
             "%d bytes after a truncated message", lens[i]);
    }
}

static void token(int peer)
{
    MPI_Sendrecv(NULL, 0, MPI_CHAR, peer, 2, NULL, 0, MPI_CHAR, peer, 2, comm,
                 MPI_STATUS_IGNORE);
}

static void truncated(int peer, int sent, int room, bool late, bool rget, char *s,
                      char *r)
{
    MPI_Request out, in;
    int err, class = MPI_SUCCESS;

    fill(s, (size_t)sent, mix(7, (uint64_t)rank));
    memset(r, 0xa5, (size_t)room + GUARD);
    if (late) {
        MPI_Isend(s, sent, MPI_CHAR, peer, 0, comm, &out);
        token(peer);
        MPI_Irecv(r, room, MPI_CHAR, peer, 0, comm, &in);
    } else {
        MPI_Irecv(r, room, MPI_CHAR, peer, 0, comm, &in);
        token(peer);
        MPI_Isend(s, sent, MPI_CHAR, peer, 0, comm, &out);
    }
    err = MPI_Wait(&in, MPI_STATUS_IGNORE);
    if (err != MPI_SUCCESS)
        MPI_Error_class(err, &class);
    expect(class == MPI_ERR_TRUNCATE, "%d bytes into %d: error class %d", sent, room, class);
    expect(rget || all_bytes(r + room, GUARD, 0xa5), "%d bytes into %d: written behind the buffer",
           sent, room);

    err = MPI_Wait(&out, MPI_STATUS_IGNORE);
    expect(err == MPI_SUCCESS, "the sender of %d bytes got error %d", sent, err);
    following(peer, s, r);
}

int main(int argc, char **argv)
{
    story_open(&argc, &argv, MPI_THREAD_SINGLE, 60);
    MPI_Comm_dup(MPI_COMM_WORLD, &comm);
    MPI_Comm_set_errhandler(comm, MPI_ERRORS_RETURN);
    no_rget = longest_not_fetched();

    for (int c = 0; c < 8 && (rank ^ 1) < size; c++) {
        enum mem smem = c & 1 ? MEM_POOL : MEM_MALLOC, rmem = c & 2 ? MEM_POOL : MEM_MALLOC;
        char *s = mem_get(smem, LARGEST), *r = mem_get(rmem, LARGEST + GUARD);

        for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
            if (story("%s %s-%s %d into %d", c & 4 ? "unexpected" : "expected",
                      mem_name(smem), mem_name(rmem), cases[i].sent, cases[i].room))
                truncated(rank ^ 1, cases[i].sent, cases[i].room, c & 4,
                          smem == MEM_POOL || cases[i].sent > no_rget, s, r);
        mem_put(smem, s);
        mem_put(rmem, r);
    }
    MPI_Comm_free(&comm);
    return story_close();
}
