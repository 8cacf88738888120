# SPDX-License-Identifier: BSD-3-Clause
# demo.gp - draws the CSV file of "pwbench compare": one panel for each test and
# kind of buffer, one line for each transport.
#
#   gnuplot -e "csv='demo.csv'; svg='demo.svg'" demo.gp

panels = system("awk -F, 'NR > 1 && !seen[$1 $3]++ { print $1 \",\" $3 }' '" . csv . "'")
subject = system("awk -F, 'NR == 1 { print $5 }' '" . csv . "'")
if (words(panels) == 0) { print "demo.gp: ", csv, " holds no results"; exit status 1 }

# Columns with a value in that panel, by name.
transports(panel) = system("awk -F, 'NR == 1 { split($0, name) } " \
    . "$1 \",\" $3 == \"" . panel . "\" { for (i = 5; i <= NF; i++) if ($i != \"\") has[i] = 1 } " \
    . "END { for (i = 5; i <= NF; i++) if (has[i] && (i == 5 || i > 8)) print name[i] }' '" . csv . "'")
test(panel) = panel[1:strstrt(panel, ",") - 1]
buffers(panel) = panel[strstrt(panel, ",") + 1:*]
is_rate(panel) = test(panel) eq "bw" || test(panel) eq "bibw"
in_panel(panel) = strcol("test") eq test(panel) && strcol("buffers") eq buffers(panel)

columns = words(panels) > 1 ? 2 : 1
rows = (words(panels) + columns - 1) / columns

set terminal svg size 480 * columns, 340 * rows background "white" font "sans,12"
set output svg
set datafile separator ","
set logscale xy
set xtics ("1" 1, "16" 16, "256" 256, "4K" 4096, "64K" 65536, "1M" 1048576, "16M" 16777216)
set offsets graph 0.05, graph 0.05, 0, 0
set grid ytics xtics lc rgb "#dddddd"
set xlabel "bytes"
set key left
set multiplot layout rows, columns

do for [panel in panels] {
    set title test(panel) . ", " . (buffers(panel) eq "alloc_mem" ? "MPI_Alloc_mem" : buffers(panel)) noenhanced
    set ylabel is_rate(panel) ? "MB/s (more is better)" : "us (less is better)"
    plot for [name in transports(panel)] csv \
        using (in_panel(panel) ? column("bytes") : NaN):(column(name)) \
        with linespoints lw (name eq subject ? 3 : 1.5) title name noenhanced
}
unset multiplot
