/* SPDX-License-Identifier: BSD-3-Clause */
/* eager.c - up to 64 KiB go to another host before they are asked for.
 *
 * Two ranks on two hosts. Rank 0 sends a message with MPI_Send, then a word that tells of
 * it; rank 1 receives the word first. Whoever waited to be asked for the message would wait
 * for ever. With the bytes in one piece and strided, which are packed for the way; and more
 * of those than there are descriptors.
 */
#include "story.h"

#include <stdlib.h>

enum { LEN = 64 << 10, PIECE = 64, MANY = 700 };

static MPI_Datatype strided;    /* LEN bytes of 2 * LEN */

static void before_asked(int count, MPI_Datatype type, size_t room)
{
    char *buf = calloc(1, room);
    int word = 0;

    if (rank == 0) {
        fill(buf, room, 5);
        MPI_Send(buf, count, type, 1, 1, MPI_COMM_WORLD);
        MPI_Send(&rank, 1, MPI_INT, 1, 2, MPI_COMM_WORLD);
    } else {
        MPI_Recv(&word, 1, MPI_INT, 0, 2, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
        MPI_Recv(buf, (int)room, MPI_CHAR, 0, 1, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
        if (type == MPI_CHAR)
            same(buf, (size_t)count, 5, "the message");
    }
    free(buf);
}

static void many(void)
{
    char *buf = calloc(2, LEN), *got = calloc(2, LEN);
    MPI_Request r[MANY];

    fill(buf, 2 * (size_t)LEN, 6);
    for (int i = 0; i < MANY && rank == 0; i++)
        MPI_Isend(buf, 1, strided, 1, i, MPI_COMM_WORLD, &r[i]);
    if (rank == 0)
        MPI_Waitall(MANY, r, MPI_STATUSES_IGNORE);
    for (int i = 0; i < MANY && rank == 1; i++) {
        MPI_Recv(got, 1, strided, 0, i, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
        for (size_t at = 0; at < 2 * (size_t)LEN; at += 2 * PIECE)
            for (size_t k = 0; k < PIECE; k++)
                if (got[at + k] != buf[at + k]) {
                    expect(false, "byte %zu of message %d", at + k, i);
                    break;
                }
    }
    free(buf);
    free(got);
}

int main(int argc, char **argv)
{
    story_open(&argc, &argv, MPI_THREAD_SINGLE, 120);
    if (size != 2)
        story_skip("it takes two ranks");
    MPI_Type_vector(LEN / PIECE, PIECE, 2 * PIECE, MPI_CHAR, &strided);
    MPI_Type_commit(&strided);
    if (story("%d bytes in one piece", LEN))
        before_asked(LEN, MPI_CHAR, LEN);
    if (story("%d strided bytes", LEN))
        before_asked(1, strided, 2 * (size_t)LEN);
    if (story("%d such messages at once", MANY))
        many();
    MPI_Type_free(&strided);
    return story_close();
}
