/* SPDX-License-Identifier: BSD-3-Clause */
/* costs_file.c - what was measured on this host, kept in a file.
 *
 * Start at `numbers` and `texts`: reading, writing and the checks go by them.
 */
#define _GNU_SOURCE
#include "costs_file.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include "regcache/fnv.h"

enum { VERSION = 2 };
#define FIRST_LINE "pinwheel-costs 2"

enum { FILE_MAX = 256 << 10, NUMBERS_MAX = PW_CALIB_QUEUES * PW_CALIB_CHUNKS };
/* An hour: no figure of such a file is longer. */
#define NUMBER_MAX 3600000000000u

const uint64_t pw_calib_chunks[PW_CALIB_CHUNKS] = { 4096, 8192, 16384, 32768, 65536 };
const uint64_t pw_calib_queues[PW_CALIB_QUEUES] = { 256 << 10, 1 << 20, 4 << 20 };

#define NUMBERS(word, field) \
    { word, offsetof(struct pw_calibration, field), \
      sizeof(((struct pw_calibration *)0)->field) / sizeof(uint64_t) }
#define TEXT(word, field) { word, offsetof(struct pw_calibration, field) }

static const struct { const char *word; size_t at, n; } numbers[] = {
    NUMBERS("direct", costs.direct), NUMBERS("push", costs.push),
    NUMBERS("stream", costs.stream), NUMBERS("kernel", costs.kernel),
    NUMBERS("past-extra", costs.past_extra), NUMBERS("chunk", chunk), NUMBERS("ring", ring),
    NUMBERS("copy-own", copy_own), NUMBERS("copy-other", copy_other),
    NUMBERS("copy-none", copy_none), NUMBERS("past-own", past_own),
    NUMBERS("past-other", past_other), NUMBERS("past-none", past_none),
    NUMBERS("wake", wake), NUMBERS("map", map), NUMBERS("touch", touch),
};
static const struct { const char *word; size_t at; } texts[] = {
    TEXT("host", host), TEXT("cpu", cpu), TEXT("kernel-release", kernel),
    TEXT("taken", taken), TEXT("by", by),
};
enum { N_NUMBERS = sizeof numbers / sizeof *numbers,
       N_TEXTS = sizeof texts / sizeof *texts };

/* ---- this host ---- */

/* What may stand in a line and in a file's name. */
static void plain(char *text)
{
    for (; *text; text++)
        if (*text < ' ' || *text > '~')
            *text = '?';
}

static void cpu_model(char out[PW_CALIB_TEXT])
{
    FILE *f = fopen("/proc/cpuinfo", "re");
    char line[256];

    strcpy(out, "unknown");
    while (f && fgets(line, sizeof line, f))
        if (sscanf(line, "model name : %127[^\n]", out) == 1)
            break;
    if (f)
        fclose(f);
    plain(out);
}

void pw_calib_identify(struct pw_calibration *c)
{
    struct utsname u = { .nodename = "" };

    uname(&u);
    snprintf(c->host, sizeof c->host, "%s", *u.nodename ? u.nodename : "unknown");
    snprintf(c->kernel, sizeof c->kernel, "%s", u.release);
    plain(c->host);
    plain(c->kernel);
    cpu_model(c->cpu);
}

void pw_calib_stamp(struct pw_calibration *c)
{
    time_t now = time(NULL);
    struct tm t;

    gmtime_r(&now, &t);
    strftime(c->taken, sizeof c->taken, "%Y-%m-%dT%H:%M:%SZ", &t);
}

int pw_calib_path(char out[PW_CALIB_PATH])
{
    const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    const struct passwd *user = home && *home == '/' ? NULL : getpwuid(geteuid());
    struct pw_calibration here;
    int n;

    pw_calib_identify(&here);
    for (char *p = here.host; *p; p++)
        if (*p == '/')
            *p = '?';
    if (cache && *cache == '/')
        n = snprintf(out, PW_CALIB_PATH, "%s/pinwheel/costs-%s", cache, here.host);
    else if (user || (home && *home == '/'))
        n = snprintf(out, PW_CALIB_PATH, "%s/.cache/pinwheel/costs-%s",
                     user ? user->pw_dir : home, here.host);
    else
        return -ENOENT;
    return n < PW_CALIB_PATH ? 0 : -ENAMETOOLONG;
}

/* ---- reading ---- */

__attribute__((format(printf, 3, 4)))
static int refuse(char why[PW_CALIB_WHY], int err, const char *format, ...)
{
    va_list ap;

    va_start(ap, format);
    vsnprintf(why, PW_CALIB_WHY, format, ap);
    va_end(ap);
    return err;
}

static bool read_numbers(const char *text, uint64_t *out, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        char *end;

        if (*text != ' ' || text[1] < '0' || text[1] > '9')
            return false;
        errno = 0;
        out[i] = strtoull(text + 1, &end, 10);
        if (errno || out[i] > NUMBER_MAX)
            return false;
        text = end;
    }
    return !*text;
}

static bool read_text(const char *text, char out[PW_CALIB_TEXT])
{
    size_t len = strlen(text);

    if (*text != ' ' || len < 2 || len > PW_CALIB_TEXT)
        return false;
    memcpy(out, text + 1, len);
    return true;
}

static bool read_pair(const char *text, struct pw_calibration *c)
{
    uint64_t n[3];

    if (c->n_pairs == PW_CALIB_PAIRS || !read_numbers(text, n, 3))
        return false;
    c->pairs[c->n_pairs++] = (struct pw_calib_pair){ n[0], n[1], n[2] };
    return true;
}

/* Each word once but "pair"; seen has a bit for each. */
static bool read_line(const char *line, struct pw_calibration *c, uint32_t *seen)
{
    size_t len = strcspn(line, " ");

    if (len == 4 && !strncmp(line, "pair", 4))
        return read_pair(line + len, c);
    for (int i = 0; i < N_NUMBERS + N_TEXTS; i++) {
        const char *word = i < N_NUMBERS ? numbers[i].word : texts[i - N_NUMBERS].word;

        if (strlen(word) != len || strncmp(word, line, len))
            continue;
        if (*seen & (uint32_t)1 << i)
            return false;
        *seen |= (uint32_t)1 << i;
        return i < N_NUMBERS
            ? read_numbers(line + len, (uint64_t *)(void *)((char *)c + numbers[i].at),
                           numbers[i].n)
            : read_text(line + len, (char *)c + texts[i - N_NUMBERS].at);
    }
    return false;
}

/* The text up to the last line, whose sum must be right. false: damaged. */
static bool whole(char *text, size_t len)
{
    const char *last;
    uint64_t sum;
    char tail[2];

    if (!len || text[len - 1] != '\n' || strlen(text) != len)
        return false;
    text[len - 1] = '\0';
    last = strrchr(text, '\n');
    if (!last || sscanf(last + 1, "sum %16" SCNx64 "%1s", &sum, tail) != 1)
        return false;
    text[last + 1 - text] = '\0';
    return sum == pw_fnv64(PW_FNV64, text, (size_t)(last + 1 - text));
}

static int check_first_line(const char *text, char *why)
{
    unsigned version;

    if (sscanf(text, "pinwheel-costs %9u", &version) != 1)
        return refuse(why, -EBADMSG, "it is not a file of pwbench calibrate");
    if (version > VERSION)
        return refuse(why, -ENOTSUP, "it is of a newer version of pinwheel");
    if (strncmp(text, FIRST_LINE "\n", sizeof FIRST_LINE))
        return refuse(why, -ESTALE, "it is of an older version of pinwheel");
    return 0;
}

static int understand(char *text, size_t len, struct pw_calibration *c, char *why)
{
    struct pw_calibration here;
    uint32_t seen = 0;
    char *next, *line = text;
    int err = check_first_line(text, why);

    memset(c, 0, sizeof *c);
    if (err)
        return err;
    if (!whole(text, len))
        return refuse(why, -EBADMSG, "it is damaged");
    for (line = strchr(line, '\n') + 1; *line; line = next + 1) {
        next = strchr(line, '\n');
        *next = '\0';
        if (!read_line(line, c, &seen))
            return refuse(why, -EBADMSG, "it is damaged");
    }
    if (seen != ((uint32_t)1 << (N_NUMBERS + N_TEXTS)) - 1)
        return refuse(why, -EBADMSG, "it is not complete");
    pw_calib_identify(&here);
    if (strcmp(here.host, c->host))
        return refuse(why, -ESTALE, "it is of another host, %s", c->host);
    if (strcmp(here.cpu, c->cpu))
        return refuse(why, -ESTALE, "it is of another CPU, %s", c->cpu);
    if ((c->chunk && (c->chunk < 1024 || c->chunk > 1 << 20)) ||
        c->costs.past_extra >= 1000000000)
        return refuse(why, -EBADMSG, "it is damaged");
    return 0;
}

int pw_calib_read(const char *path, struct pw_calibration *out, char why[PW_CALIB_WHY])
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK), err;
    char *text = NULL;
    ssize_t n = -1;

    why[0] = '\0';
    if (fd < 0)
        return refuse(why, -errno, "%s",
                      errno == ENOENT ? "there is none" : strerror(errno));
    text = malloc(FILE_MAX + 1);
    if (text)
        n = read(fd, text, FILE_MAX + 1);
    err = !text ? -ENOMEM : n < 0 ? -errno : 0;
    close(fd);
    if (err)
        refuse(why, err, "%s", strerror(-err));
    else if (n > FILE_MAX)
        err = refuse(why, -EBADMSG, "it is not a file of pwbench calibrate");
    if (!err) {
        text[n] = '\0';
        err = understand(text, (size_t)n, out, why);
    }
    free(text);
    return err;
}

/* ---- writing ---- */

static void print(FILE *to, const struct pw_calibration *c)
{
    fputs(FIRST_LINE "\n", to);
    for (int i = 0; i < N_TEXTS; i++)
        fprintf(to, "%s %s\n", texts[i].word, (const char *)c + texts[i].at);
    for (int i = 0; i < N_NUMBERS; i++) {
        const void *at = (const char *)c + numbers[i].at;
        const uint64_t *v = at;

        fputs(numbers[i].word, to);
        for (size_t k = 0; k < numbers[i].n; k++)
            fprintf(to, " %" PRIu64, v[k]);
        fputc('\n', to);
    }
    for (uint64_t i = 0; i < c->n_pairs; i++)
        fprintf(to, "pair %" PRIu64 " %" PRIu64 " %" PRIu64 "\n", c->pairs[i].a,
                c->pairs[i].b, c->pairs[i].ns);
}

/* The last two directories of the path; what is there already is fine. */
static void make_directories(const char *path)
{
    char dir[PW_CALIB_PATH];
    char *last, *above;

    snprintf(dir, sizeof dir, "%s", path);
    last = strrchr(dir, '/');
    if (!last || last == dir)
        return;
    *last = '\0';
    above = strrchr(dir, '/');
    if (above && above != dir) {
        *above = '\0';
        mkdir(dir, 0700);
        *above = '/';
    }
    mkdir(dir, 0700);
}

static int write_all(int fd, const char *text, size_t len)
{
    while (len > 0) {
        ssize_t n = write(fd, text, len);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? -errno : -EIO;
        text += n;
        len -= (size_t)n;
    }
    return 0;
}

/* What is written first, beside its place. The descriptor and its name, or -errno. */
static int temp_open(const char *path, char temp[PW_CALIB_PATH + 16])
{
    int fd;

    snprintf(temp, PW_CALIB_PATH + 16, "%s.XXXXXX", path);
    fd = mkostemp(temp, O_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

/* The file as text; free() it. 0 or -ENOMEM. */
static int text_of(const struct pw_calibration *c, char **text, size_t *len)
{
    FILE *to = open_memstream(text, len);

    if (!to)
        return -ENOMEM;
    print(to, c);
    fflush(to);
    fprintf(to, "sum %016" PRIx64 "\n", pw_fnv64(PW_FNV64, *text, *len));
    return fclose(to) ? -ENOMEM : 0;
}

/* All of it in a file of its own, whose name is in temp on 0. */
static int temp_write(const char *path, const struct pw_calibration *c, bool sync,
                      char temp[PW_CALIB_PATH + 16])
{
    char *text = NULL;
    size_t len = 0;
    int err = text_of(c, &text, &len), fd;

    if (err)
        goto out;
    make_directories(path);
    err = fd = temp_open(path, temp);
    if (fd < 0)
        goto out;
    err = write_all(fd, text, len);
    if (!err && sync && fsync(fd))
        err = -errno;
    close(fd);
    if (err)
        unlink(temp);
out:
    free(text);
    return err;
}

int pw_calib_write(const char *path, const struct pw_calibration *c, char why[PW_CALIB_WHY])
{
    char temp[PW_CALIB_PATH + 16];
    int err = temp_write(path, c, true, temp);

    why[0] = '\0';
    if (!err && rename(temp, path)) {
        err = -errno;
        unlink(temp);
    }
    return err ? refuse(why, err, "%s", strerror(-err)) : 0;
}

int pw_calib_probe(const char *path, char why[PW_CALIB_WHY])
{
    char temp[PW_CALIB_PATH + 16];
    int fd;

    why[0] = '\0';
    make_directories(path);
    fd = temp_open(path, temp);
    if (fd < 0)
        return refuse(why, fd, "%s", strerror(-fd));
    close(fd);
    unlink(temp);
    return 0;
}

/* ---- only where there is none of use ---- */

bool pw_calib_is_replaceable(int err)
{
    return err == -ENOENT || err == -EBADMSG || err == -ESTALE;
}

enum worth { OF_NO_USE, OF_A_JOB, OF_MORE };

static enum worth worth_of(const char *path)
{
    struct pw_calibration *c = malloc(sizeof *c);
    char why[PW_CALIB_WHY];
    enum worth worth = OF_MORE;
    int err = c ? pw_calib_read(path, c, why) : -ENOMEM;

    if (pw_calib_is_replaceable(err))
        worth = OF_NO_USE;
    else if (!err && !strcmp(c->by, PW_CALIB_BY_JOB))
        worth = OF_A_JOB;
    free(c);
    return worth;
}

static bool is_file(const char *path)
{
    struct stat st;

    return lstat(path, &st) == 0 && S_ISREG(st.st_mode);
}

/* What is of no use goes out of the way. Between our look and our rename somebody may
 * have put a good one there: so what was taken is looked at, and put back. By then a job
 * may have put its own there, which stays if what we took was of a job too. */
static int take_away(const char *path, const char *aside)
{
    enum worth worth;

    if (!is_file(path) || worth_of(path) != OF_NO_USE)
        return -EEXIST;
    if (rename(path, aside))
        return errno == ENOENT ? 0 : -errno;
    worth = worth_of(aside);
    if (worth == OF_MORE && !rename(aside, path))
        return -EEXIST;
    if (worth == OF_A_JOB && link(aside, path) && errno != EEXIST)
        return -errno;          /* it is kept, though aside */
    unlink(aside);
    return worth == OF_NO_USE ? 0 : -EEXIST;
}

int pw_calib_offer(const char *path, const struct pw_calibration *c, char why[PW_CALIB_WHY])
{
    char temp[PW_CALIB_PATH + 16], aside[PW_CALIB_PATH + 24];
    int err = temp_write(path, c, false, temp);

    why[0] = '\0';
    if (err)
        return refuse(why, err, "%s", strerror(-err));
    snprintf(aside, sizeof aside, "%s.old", temp);
    /* Unlike rename(2), link(2) replaces nothing. */
    while (link(temp, path)) {
        err = errno == EEXIST ? take_away(path, aside) : -errno;
        if (err)
            break;
    }
    unlink(temp);
    if (err == -EEXIST)
        return refuse(why, err, is_file(path) ? "another one has come there meanwhile"
                                              : "what is there is no plain file");
    return err ? refuse(why, err, "%s", strerror(-err)) : 0;
}
