/* SPDX-License-Identifier: BSD-3-Clause */
/* costs_file.c - what was measured is read back as it was, or not at all. */
#define _GNU_SOURCE
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "btl/core/costs_file.h"

static char dir[64], path[PW_CALIB_PATH], why[PW_CALIB_WHY];
static struct pw_calibration in, out;

static void fill_in(void)
{
    uint64_t x = 1, *curves = in.costs.direct.ns;

    strcpy(dir, "/tmp/pw-costs-XXXXXX");
    cr_assert(ne(ptr, mkdtemp(dir), NULL));
    snprintf(path, sizeof path, "%s/a/b/costs", dir);
    snprintf(why, sizeof why, "%s/a", dir);
    mkdir(why, 0700);
    memset(&in, 0, sizeof in);
    pw_calib_identify(&in);
    strcpy(in.taken, "2026-01-02T03:04:05Z");
    strcpy(in.by, PW_CALIB_BY_TOOL);
    for (int i = 0; i < 4 * PW_COST_POINTS; i++)
        curves[i] = x++ * 1000;
    in.costs.past_extra = 1234;
    in.chunk = 8192;
    for (int q = 0; q < PW_CALIB_QUEUES; q++)
        for (int k = 0; k < PW_CALIB_CHUNKS; k++)
            in.ring[q][k] = x++;
    for (int i = 0; i < PW_COST_POINTS; i++)
        in.copy_own.ns[i] = in.past_none.ns[i] = x++;
    in.wake = 5;
    in.touch = 7;
    in.n_pairs = 2;
    in.pairs[0] = (struct pw_calib_pair){ 0, 1, 45 };
    in.pairs[1] = (struct pw_calib_pair){ 0, 2, 450 };
}

static void remove_all(void)
{
    char command[128];

    snprintf(command, sizeof command, "rm -rf %s", dir);
    cr_expect(eq(int, system(command), 0));
}

TestSuite(costs_file, .init = fill_in, .fini = remove_all);

static void written(void)
{
    cr_assert(eq(int, pw_calib_write(path, &in, why), 0), "%s", why);
}

/* The whole file, to be changed. */
static size_t slurp(char *text, size_t room)
{
    FILE *f = fopen(path, "r");
    size_t n = fread(text, 1, room - 1, f);

    fclose(f);
    text[n] = '\0';
    return n;
}

static void spit(const char *text, size_t len)
{
    FILE *f = fopen(path, "w");

    fwrite(text, 1, len, f);
    fclose(f);
}

/* With its sum made right again. */
static void spit_summed(char *text)
{
    uint64_t sum = 0xcbf29ce484222325u;
    char *end = strstr(text, "\nsum ") + 1;
    FILE *f = fopen(path, "w");

    for (char *p = text; p < end; p++)
        sum = (sum ^ (unsigned char)*p) * 0x100000001b3u;
    fprintf(f, "%.*ssum %016" PRIx64 "\n", (int)(end - text), text, sum);
    fclose(f);
}

static void refused(int err, const char *sentence)
{
    cr_expect(eq(int, pw_calib_read(path, &out, why), err), "%s", why);
    cr_expect(ne(ptr, strstr(why, sentence), NULL), "%s", why);
}

static void replaced(const char *from, const char *to)
{
    char text[8192], changed[8192], *at;

    written();
    slurp(text, sizeof text);
    at = strstr(text, from);
    cr_assert(ne(ptr, at, NULL), "%s", from);
    snprintf(changed, sizeof changed, "%.*s%s%s", (int)(at - text), text, to,
             at + strlen(from));
    spit_summed(changed);
}

Test(costs_file, what_was_written_is_read)
{
    struct stat st;

    written();
    cr_assert(eq(int, pw_calib_read(path, &out, why), 0), "%s", why);
    cr_expect(eq(int, memcmp(&in, &out, sizeof in), 0));
    cr_expect(eq(int, stat(path, &st), 0));
    cr_expect(eq(uint, st.st_mode & 0777, 0600), "nobody else's business");
}

Test(costs_file, an_old_one_is_replaced)
{
    written();
    in.chunk = 4096;
    written();
    cr_assert(eq(int, pw_calib_read(path, &out, why), 0), "%s", why);
    cr_expect(eq(u64, out.chunk, 4096));
}

Test(costs_file, as_many_pairs_as_there_are_places_for)
{
    in.n_pairs = PW_CALIB_PAIRS;
    for (uint64_t i = 0; i < PW_CALIB_PAIRS; i++)
        in.pairs[i] = (struct pw_calib_pair){ i, i + 1, i * 1000 };
    written();
    cr_assert(eq(int, pw_calib_read(path, &out, why), 0), "%s", why);
    cr_expect(eq(int, memcmp(&in, &out, sizeof in), 0));
}

Test(costs_file, none_is_no_fault)
{
    refused(-ENOENT, "there is none");
}

Test(costs_file, any_changed_byte_is_seen)
{
    char text[8192];
    size_t n;

    written();
    n = slurp(text, sizeof text);
    for (size_t i = 0; i < n; i++) {
        text[i] ^= 1;
        spit(text, n);
        cr_expect(ne(int, pw_calib_read(path, &out, why), 0), "byte %zu", i);
        text[i] ^= 1;
        if (text[i] != '\0') {
            char was = text[i];

            text[i] = '\0';
            spit(text, n);
            cr_expect(ne(int, pw_calib_read(path, &out, why), 0), "byte %zu", i);
            text[i] = was;
        }
    }
}

Test(costs_file, any_missing_end_is_seen)
{
    char text[8192];
    size_t n;

    written();
    n = slurp(text, sizeof text);
    for (size_t i = 0; i < n; i++) {
        spit(text, i);
        cr_expect(ne(int, pw_calib_read(path, &out, why), 0), "%zu bytes", i);
    }
}

Test(costs_file, another_host_or_cpu_or_version_is_told_by_name)
{
    strcpy(in.host, "elsewhere");
    written();
    refused(-ESTALE, "another host, elsewhere");
    pw_calib_identify(&in);
    strcpy(in.cpu, "Z80");
    written();
    refused(-ESTALE, "another CPU, Z80");
    pw_calib_identify(&in);
    replaced("pinwheel-costs 2\n", "pinwheel-costs 1\n");
    refused(-ESTALE, "older version");
    replaced("pinwheel-costs 2\n", "pinwheel-costs 3\n");
    refused(-ENOTSUP, "newer version");
}

Test(costs_file, what_is_no_such_file_is_refused)
{
    written();
    spit("hello\n", 6);
    refused(-EBADMSG, "not a file of pwbench calibrate");
    spit("", 0);
    refused(-EBADMSG, "not a file of pwbench calibrate");
    unlink(path);
    cr_assert(eq(int, mkdir(path, 0700), 0));
    refused(-EISDIR, "irectory");
    rmdir(path);
    cr_assert(eq(int, mkfifo(path, 0600), 0));
    cr_expect(ne(int, pw_calib_read(path, &out, why), 0), "and nobody waits");
}

Test(costs_file, more_than_any_such_file_is_not_read)
{
    written();
    cr_assert(eq(int, truncate(path, (off_t)1 << 30), 0));
    refused(-EBADMSG, "not a file of pwbench calibrate");
}

/* With the right sum: by hand, or by a defect of ours. */
Test(costs_file, every_line_must_make_sense)
{
    static const char *const bad[][2] = {
        { "\nwake 5\n", "\nwake\n" }, { "\nwake 5\n", "\nwake \n" },
        { "\nwake 5\n", "\nwake 5 6\n" }, { "\nwake 5\n", "\nwake -5\n" },
        { "\nwake 5\n", "\nwake 5x\n" }, { "\nwake 5\n", "\nwake  5\n" },
        { "\nwake 5\n", "\nwake 99999999999999999999999\n" },
        { "\nwake 5\n", "\nwake 3600000000001\n" }, { "\nwake 5\n", "\nwake 5\nwake 5\n" },
        { "\nwake 5\n", "\nwake 5\nwoke 5\n" }, { "\nwake 5\n", "\nwake 5\n\n" },
        { "\nwake 5\n", "\n" }, { "\npair 0 1 45\n", "\npair 0 1\n" },
        { "\nchunk 8192\n", "\nchunk 1023\n" }, { "\nchunk 8192\n", "\nchunk 1048577\n" },
        { "\npast-extra 1234\n", "\npast-extra 1000000000\n" },
        { "\ntaken 2", "\ntaken\ntaken 2" }, { "\nby pwbench calibrate\n", "\n" },
    };

    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        replaced(bad[i][0], bad[i][1]);
        cr_expect(eq(int, pw_calib_read(path, &out, why), -EBADMSG), "%s: %s", bad[i][1], why);
    }
}

Test(costs_file, a_text_longer_than_its_place_is_refused)
{
    char line[400] = "\ntaken ";

    memset(line + 7, 'x', 200);
    strcpy(line + 207, "\ntouch 7\n");
    replaced("\ntouch 7\n", line);
    refused(-EBADMSG, "damaged");
}

Test(costs_file, too_many_pairs_are_refused)
{
    static char text[256 << 10], *end;

    in.n_pairs = PW_CALIB_PAIRS;
    written();
    slurp(text, sizeof text);
    end = strstr(text, "\nsum ");
    strcpy(end, "\npair 1 2 3\nsum 0\n");
    spit_summed(text);
    refused(-EBADMSG, "damaged");
}

Test(costs_file, where_nothing_can_be_written_what_was_there_stays)
{
    char other[PW_CALIB_PATH + 8];

    written();
    snprintf(other, sizeof other, "%s/x", path);      /* below a file */
    cr_expect(eq(int, pw_calib_write(other, &in, why), -ENOTDIR));
    cr_expect(ne(ptr, strstr(why, "ot a directory"), NULL), "%s", why);
    cr_expect(eq(int, pw_calib_read(path, &out, why), 0));
    unlink(path);
    cr_assert(eq(int, mkdir(path, 0700), 0));
    cr_expect(eq(int, pw_calib_write(path, &in, why), -EISDIR));
}

/* A disk that is full. */
Test(costs_file, half_a_file_is_not_left_behind)
{
    cr_expect(ne(int, pw_calib_write("/dev/full/costs", &in, why), 0));
    cr_expect(eq(int, access(path, F_OK), -1));
}

Test(costs_file, its_place_follows_the_user)
{
    char at[PW_CALIB_PATH], want[PW_CALIB_PATH + 64];

    setenv("XDG_CACHE_HOME", "/c", 1);
    cr_assert(eq(int, pw_calib_path(at), 0));
    snprintf(want, sizeof want, "/c/pinwheel/costs-%s", in.host);
    cr_expect(eq(str, at, want));
    setenv("XDG_CACHE_HOME", "relative", 1);
    setenv("HOME", "/h", 1);
    cr_assert(eq(int, pw_calib_path(at), 0));
    snprintf(want, sizeof want, "/h/.cache/pinwheel/costs-%s", in.host);
    cr_expect(eq(str, at, want));
    unsetenv("HOME");
    cr_expect(eq(int, pw_calib_path(at), 0), "as the user database says");
}

/* ---- what a job offers ---- */

static void by_job(void)
{
    strcpy(in.by, PW_CALIB_BY_JOB);
}

static int files(void)
{
    char command[128];
    FILE *p;
    int n = -1;

    snprintf(command, sizeof command, "find %s -type f | wc -l", dir);
    p = popen(command, "r");
    cr_assert(eq(int, fscanf(p, "%d", &n), 1));
    pclose(p);
    return n;
}

static void offered(int err, const char *sentence)
{
    cr_expect(eq(int, pw_calib_offer(path, &in, why), err), "%s", why);
    cr_expect(ne(ptr, strstr(why, sentence), NULL), "%s", why);
}

static void kept_by(const char *by)
{
    cr_assert(eq(int, pw_calib_read(path, &out, why), 0), "%s", why);
    cr_expect(eq(str, out.by, (char *)by));
}

Test(costs_file, a_job_gives_what_there_is_none_of)
{
    struct stat st;

    by_job();
    offered(0, "");
    kept_by(PW_CALIB_BY_JOB);
    cr_expect(eq(int, files(), 1), "nothing is left beside it");
    cr_expect(eq(int, stat(path, &st), 0));
    cr_expect(eq(uint, st.st_mode & 0777, 0600));
}

Test(costs_file, a_job_replaces_nothing_of_use)
{
    struct stat before, after;

    written();
    cr_assert(eq(int, stat(path, &before), 0));
    by_job();
    offered(-EEXIST, "meanwhile");
    cr_assert(eq(int, stat(path, &after), 0));
    cr_expect(eq(u64, before.st_ino, after.st_ino));
    kept_by(PW_CALIB_BY_TOOL);
    cr_expect(eq(int, files(), 1));
}

Test(costs_file, a_job_replaces_what_is_damaged_or_of_another_cpu_or_old)
{
    written();
    by_job();
    spit("hello\n", 6);
    offered(0, "");
    kept_by(PW_CALIB_BY_JOB);

    strcpy(in.cpu, "Z80");
    written();
    pw_calib_identify(&in);
    offered(0, "");
    kept_by(PW_CALIB_BY_JOB);

    replaced("pinwheel-costs 2\n", "pinwheel-costs 1\n");
    offered(0, "");
    kept_by(PW_CALIB_BY_JOB);
    cr_expect(eq(int, files(), 1));
}

Test(costs_file, what_a_newer_pinwheel_made_is_left_to_it)
{
    replaced("pinwheel-costs 2\n", "pinwheel-costs 3\n");
    by_job();
    offered(-EEXIST, "meanwhile");
    refused(-ENOTSUP, "newer");
}

Test(costs_file, what_is_no_plain_file_is_left_alone)
{
    char other[PW_CALIB_PATH];
    struct stat st;

    written();
    snprintf(other, sizeof other, "%s/other", dir);
    cr_assert(eq(int, rename(path, other), 0));
    by_job();
    cr_assert(eq(int, mkdir(path, 0700), 0));
    offered(-EEXIST, "no plain file");
    rmdir(path);
    cr_assert(eq(int, mkfifo(path, 0600), 0));
    offered(-EEXIST, "no plain file");
    unlink(path);
    cr_assert(eq(int, symlink("nowhere", path), 0));
    offered(-EEXIST, "no plain file");
    cr_expect(eq(int, lstat(path, &st), 0));
    cr_expect(eq(uint, st.st_mode & S_IFMT, S_IFLNK));
    cr_expect(eq(int, files(), 1), "the other one");
}

Test(costs_file, a_place_that_cannot_be_written_is_told_before_and_after)
{
    cr_expect(eq(int, pw_calib_probe(path, why), 0), "%s", why);
    cr_expect(eq(int, files(), 0), "nothing is left of the attempt");
    cr_expect(eq(int, pw_calib_probe("/proc/pinwheel/costs", why), -ENOENT));
    cr_expect(ne(int, why[0], 0));
    cr_expect(eq(int, pw_calib_offer("/proc/pinwheel/costs", &in, why), -ENOENT));
    cr_expect(ne(int, why[0], 0));
}

Test(costs_file, which_refusals_let_a_job_make_it_anew)
{
    static const int yes[] = { -ENOENT, -EBADMSG, -ESTALE };
    static const int no[] = { 0, -ENOTSUP, -EACCES, -EISDIR, -ENOMEM, -EIO };

    for (size_t i = 0; i < sizeof yes / sizeof *yes; i++)
        cr_expect(pw_calib_is_replaceable(yes[i]), "%d", yes[i]);
    for (size_t i = 0; i < sizeof no / sizeof *no; i++)
        cr_expect(not(pw_calib_is_replaceable(no[i])), "%d", no[i]);
}

/* ---- at once ---- */

enum { READERS = 32, ROUNDS = 300 };

/* Until the file says so: each look finds a whole one or none. The exit code. */
static int look_until_over(void)
{
    for (;;) {
        int err = pw_calib_read(path, &out, why);

        if (err && err != -ENOENT)
            return 1;
        if (!err && out.wake == 4711)
            return 0;
    }
}

Test(costs_file, who_reads_while_it_is_written_sees_a_whole_one_or_none, .timeout = 120)
{
    pid_t readers[READERS];
    int status;

    written();
    for (int i = 0; i < READERS; i++) {
        readers[i] = fork();
        if (!readers[i])
            _exit(look_until_over());
    }
    for (int i = 0; i < ROUNDS; i++) {
        if (i % 3 == 0)
            unlink(path);
        by_job();
        in.n_pairs = i % 2 ? 2 : PW_CALIB_PAIRS;
        if (i % 3 == 1)
            written();
        else
            pw_calib_offer(path, &in, why);
    }
    in.wake = 4711;
    written();
    for (int i = 0; i < READERS; i++) {
        cr_assert(eq(int, waitpid(readers[i], &status, 0), readers[i]));
        cr_expect(eq(int, status, 0), "reader %d", i);
    }
}

/* One writer has a good one, the others offer theirs against a damaged one: what is of
 * use is never lost. */
Test(costs_file, however_many_offer_at_once_one_is_kept_and_what_is_good_stays, .timeout = 120)
{
    enum { OFFERS = 8 };
    pid_t jobs[OFFERS];
    int status;

    for (int round = 0; round < 40; round++) {
        written();
        spit("hello\n", 6);
        by_job();
        for (int i = 0; i < OFFERS; i++) {
            jobs[i] = fork();
            if (!jobs[i]) {
                int err = pw_calib_offer(path, &in, why);

                _exit(err && err != -EEXIST);
            }
        }
        strcpy(in.by, PW_CALIB_BY_TOOL);
        written();
        for (int i = 0; i < OFFERS; i++) {
            cr_assert(eq(int, waitpid(jobs[i], &status, 0), jobs[i]));
            cr_expect(eq(int, status, 0), "job %d", i);
        }
        kept_by(PW_CALIB_BY_TOOL);
        cr_expect(eq(int, files(), 1));
    }
}
