/* SPDX-License-Identifier: BSD-3-Clause */
/* pwbench_plot.c - gnuplot draws a table. See pwbench_plot.h.
 *
 * gnuplot reads its commands from memory that it inherits, and the picture comes back
 * through its stdout: no file lies around, and no file's name is part of a command.
 */
#include "pwbench_plot.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "pwbench_launch.h"

static const double timeout = 60;

/* The first line of what gnuplot said that is not empty, nor the command that it shows
 * with a caret below. */
static void say_failed(const struct pw_launch_result *r)
{
    const char *line = r->err;

    while (*line) {
        size_t len = strcspn(line, "\n");

        if (strncmp(line, "gnuplot>", 8) && line[strspn(line, " \t^")] != '\n') {
            fprintf(stderr, ": %.*s\n", (int)len, line);
            return;
        }
        line += len + (line[len] == '\n');
    }
    if (r->timed_out)
        fprintf(stderr, ": it did not finish in %g seconds\n", timeout);
    else
        fprintf(stderr, ": it ended with exit code %d\n", r->exit_code);
}

static int probe_gnuplot(void)
{
    static const char *const argv[] = { "gnuplot", "-d", "-e", "set terminal svg", NULL };
    struct pw_launch_result r;
    int err = pw_launch(argv, NULL, timeout, &r);

    if (err == -EINTR)
        return err;
    if (err) {
        fprintf(stderr,
                "pwbench: --plot draws with gnuplot, which could not be started: %s; "
                "install it (Debian calls it gnuplot-nox), or leave out --plot\n",
                strerror(-err));
        return err;
    }
    if (r.timed_out || r.exit_code) {
        fputs("pwbench: --plot needs a gnuplot that draws SVG, and this one does not",
              stderr);
        say_failed(&r);
        err = -ENOTSUP;
    }
    pw_launch_free(&r);
    return err;
}

int pw_plot_open(struct pw_plot *plot, const char *path)
{
    int err = probe_gnuplot();

    *plot = (struct pw_plot){ .path = path, .fd = -1 };
    if (err)
        return err;
    plot->fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
    if (plot->fd >= 0)
        return 0;
    err = -errno;
    fprintf(stderr, "pwbench: cannot write %s: %s\n", path, strerror(-err));
    return err;
}

static void say_left_out(const struct pw_plot *plot, const struct pw_table *table)
{
    bool seen[PW_TESTS] = { false };
    const char *between = " ";

    for (int r = 0; r < table->n_rows; r++)
        if (pw_test_info[table->rows[r].test].one_size)
            seen[table->rows[r].test] = true;
    for (int t = 0; t < PW_TESTS; t++) {
        if (!seen[t])
            continue;
        if (*between == ' ')
            fprintf(stderr,
                    "pwbench: %s is without the tests that have one size:", plot->path);
        fprintf(stderr, "%s%s", between, pw_test_info[t].name);
        between = ", ";
    }
    if (*between == ',')
        fputc('\n', stderr);
}

/* A file descriptor that gnuplot inherits; -ENODATA when there is nothing to draw. */
static int commands_open(const struct pw_table *table)
{
    int fd = memfd_create("pwbench-plot", 0), copy, panels, err = 0;
    FILE *to;

    if (fd < 0)
        return -errno;
    copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    to = copy < 0 ? NULL : fdopen(copy, "w");
    if (!to) {
        err = -errno;
        if (copy >= 0)
            close(copy);
        close(fd);
        return err;
    }
    panels = pw_gnuplot_write(table, to);
    if (fflush(to) || ferror(to))
        err = errno ? -errno : -EIO;
    fclose(to);
    if (!err && panels == 0)
        err = -ENODATA;
    if (err)
        close(fd);
    return err ? err : fd;
}

static bool is_picture(const char *text)
{
    const char *end = strstr(text, "</svg>");

    return end && !end[6 + strspn(end + 6, " \n")];
}

/* What does not shrink, such as a pipe, held nothing. */
static int write_picture(const struct pw_plot *plot, const char *text)
{
    size_t left = strlen(text);
    struct stat st;
    ssize_t n;

    if (fstat(plot->fd, &st) || (S_ISREG(st.st_mode) && ftruncate(plot->fd, 0)))
        return -errno;
    while (left) {
        n = write(plot->fd, text, left);
        if (n < 0 && errno != EINTR)
            return -errno;
        if (n > 0) {
            text += n;
            left -= (size_t)n;
        }
    }
    return 0;
}

int pw_plot_draw(struct pw_plot *plot, const struct pw_table *table)
{
    struct pw_launch_result r;
    char commands[64];
    int fd = commands_open(table), err;
    const char *argv[] = { "gnuplot", "-d", commands, NULL };

    if (fd < 0) {
        fprintf(stderr, "pwbench: %s is not drawn: %s\n", plot->path,
                fd == -ENODATA ? "there is no result of a test over sizes" : strerror(-fd));
        return fd;
    }
    snprintf(commands, sizeof commands, "/proc/self/fd/%d", fd);
    err = pw_launch(argv, NULL, timeout, &r);
    close(fd);
    if (err == -EINTR)
        return err;
    if (err) {
        fprintf(stderr, "pwbench: %s is not drawn: gnuplot could not be started: %s\n",
                plot->path, strerror(-err));
        return err;
    }

    if (r.timed_out || r.exit_code || !is_picture(r.out)) {
        fprintf(stderr, "pwbench: %s is not drawn: gnuplot failed", plot->path);
        say_failed(&r);
        err = -EIO;
    } else {
        err = write_picture(plot, r.out);
        if (err)
            fprintf(stderr, "pwbench: cannot write %s: %s\n", plot->path, strerror(-err));
    }
    pw_launch_free(&r);
    if (!err)
        say_left_out(plot, table);
    return err;
}

void pw_plot_close(struct pw_plot *plot)
{
    struct stat st;

    if (plot->fd < 0)
        return;
    if (!fstat(plot->fd, &st) && S_ISREG(st.st_mode) && st.st_size == 0)
        unlink(plot->path);
    close(plot->fd);
    plot->fd = -1;
}
