# plots.gp: what report.py wrote, drawn as PNG and SVG; run in the folder that they are in. A block of a .dat is a series: its title, then
# x, median, least, greatest. What was not measured has no file, and no plot.
is_there(name) = system(sprintf("test -f %s.dat && echo 1 || echo 0", name)) + 0
set grid
set key outside right top reverse Left
set style fill solid 0.6 noborder

do for [format in "png svg"] {
    if (format eq "png") { set terminal pngcairo noenhanced size 1200,640 font "sans,10" } else { set terminal svg noenhanced size 1200,640 font "sans,12" }

    # Latency: x counts nines.
    set xlabel "percentile"
    set ylabel "ns"
    set logscale y
    set xtics ("0" 0, "50" 0.30103, "90" 1, "99" 2, "99.9" 3, "99.99" 4)
    array name[4] = ["latency-spin", "latency-block", "latency-brokers", "bridge-latency"]
    array what[4] = ["from process to process, spinning, 64 B", "from process to process, sleeping, 64 B", "from process to process, remembered, sleeping, 300 B", "from bus to bus, by two bridges and a Redis"]
    do for [i = 1:4] {
        if (is_there(name[i])) {
            data = name[i] . ".dat"
            stats data using 1 nooutput
            set title what[i]
            set output name[i] . "." . format
            plot for [k = 0:STATS_blocks - 1] data index k using 1:2 with lines linewidth 2 dashtype k / 8 + 1 title columnheader(1)
        }
    }
    unset logscale
    set xtics autofreq

    # One thing changes along x.
    array row[5] = ["size", "producers", "groups", "keys", "one-processor"]
    array along[5] = ["bytes of payload", "producers", "groups", "keys", "groups"]
    array up[5] = ["million events per second", "million events per second", "million events per second", "million events per second", "CPU time per event, ns"]
    do for [i = 1:5] {
        if (is_there(row[i])) {
            data = row[i] . ".dat"
            stats data using 1 nooutput
            set title up[i] . " by " . along[i]
            set xlabel along[i]
            set ylabel up[i]
            if (row[i] eq "size" || row[i] eq "keys") { set logscale x 10 } else { unset logscale x }
            if (row[i] eq "size") { set logscale y 10 } else { unset logscale y; set yrange [0:*] }
            set output row[i] . "." . format
            plot for [k = 0:STATS_blocks - 1] data index k using 1:2:3:4 with yerrorlines linewidth 2 pointtype 7 title columnheader(1)
            set yrange [*:*]
        }
    }
    unset logscale

    # Bars: a name, its place, median, least, greatest. Peers differ by powers of ten.
    unset key
    set ylabel
    set yrange [*:*] reverse
    set lmargin 58
    array bars[4] = ["peers", "brokers", "journal", "bridge"]
    array unit[4] = ["million events per second, 64 B", "thousand events per second, 300 B", "million events per second through the journal", "thousand events per second"]
    do for [i = 1:4] {
        if (is_there(bars[i])) {
            data = bars[i] . ".dat"
            set title unit[i]
            set xlabel unit[i]
            if (i <= 2) { set logscale x 10; left = i == 1 ? 0.001 : 0.1 } else { unset logscale x; left = 0 }
            set xrange [left:*]
            set output bars[i] . "." . format
            plot data using ($3 / 2):2:(left):3:($2 - 0.35):($2 + 0.35):ytic(1) with boxxyerror, data using 3:2:4:5 with xerrorbars linetype -1 pointtype -1
        }
    }
    unset logscale
    set lmargin
    set xrange [*:*]
    set yrange [*:*] noreverse
    set ytics autofreq
    set key outside right top reverse Left
}
