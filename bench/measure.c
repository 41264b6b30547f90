/* measure.c: the clock, samples, and the table that a benchmark prints.
 *
 *   kept     every sample, in the order of time. A percentile is a rank in the sorted samples of one run (the nearest
 *            rank, nothing is interpolated); a figure is the median of its runs, with the least and the greatest.
 *   ratios   processors change speed, and hosts move them about: times of two runs say little side by side. So each
 *            run measures its limits again, and a ratio has both sides from the same run. The ratio shown is the
 *            median of the runs' ratios, not the ratio of the medians.
 *   tails    p99 and p99.9 are medians of the runs, max is the worst of all runs.
 *
 * What is not measured: a machine at rest (whoever else runs is in the tail), and other placements than the one named
 * above the table. */
#include "measure.h"

#include "roles.h"

#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

int bench_options_parse(struct bench_options *options, int argc, char **argv, const char *what, int *out_exit)
{
    static const struct option known[] = {
        {"quick", no_argument, NULL, 'q'},         {"runs", required_argument, NULL, 'r'},
        {"markdown", no_argument, NULL, 'm'},      {"raw", required_argument, NULL, 'w'},
        {"figures", required_argument, NULL, 'g'}, {"first", required_argument, NULL, 'f'},
        {"help", no_argument, NULL, 'h'},          {NULL, 0, NULL, 0}};
    const char *raw_path = NULL, *figures_path = NULL;
    int n_runs = 0, first = 1;
    *options = (struct bench_options){0};
    for (int c; (c = getopt_long(argc, argv, "h", known, NULL)) != -1;) {
        switch (c) {
        case 'q':
            options->quick = true;
            break;
        case 'm':
            options->markdown = true;
            break;
        case 'w':
            raw_path = optarg;
            break;
        case 'g':
            figures_path = optarg;
            break;
        case 'f':
            first = atoi(optarg);
            if (first >= 1)
                break;
            fprintf(stderr, "--first %s: 1 or more\n", optarg);
            *out_exit = 2;
            return 1;
        case 'r':
            n_runs = atoi(optarg);
            if (n_runs >= 1 && n_runs <= BENCH_RUNS_MAX)
                break;
            fprintf(stderr, "--runs %s: 1 to %d are possible\n", optarg, BENCH_RUNS_MAX);
            *out_exit = 2;
            return 1;
        default:
            fprintf(c == 'h' ? stdout : stderr,
                    "usage: %s [--quick] [--runs N] [--first N] [--markdown] [--raw FILE] [--figures FILE]\n\n%s\n\n"
                    "  --quick         3 repetitions with a quarter of the events, instead of 5\n"
                    "  --runs N        so many repetitions\n"
                    "  --first N       what the first of them is called, instead of 1\n"
                    "  --markdown      print the table as Markdown\n"
                    "  --raw FILE      keep every sample: a line per figure and run, in the order of time\n"
                    "  --figures FILE  write the table's figures as well, a line of tab-separated fields per figure "
                    "and run\n",
                    argv[0], what);
            *out_exit = c == 'h' ? 0 : 2;
            return 1;
        }
    }
    options->n_runs = n_runs != 0 ? n_runs : options->quick ? 3 : 5;
    options->first_run = first - 1;
    if ((raw_path != NULL && (options->raw = fopen(raw_path, "w")) == NULL) ||
        (figures_path != NULL && (options->figures = fopen(figures_path, "w")) == NULL)) {
        *out_exit = fails("%s: %s", figures_path != NULL && options->raw != NULL ? figures_path : raw_path,
                          strerror(errno));
        return 1;
    }
    return 0;
}

int fails(const char *format, ...)
{
    char line[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    fprintf(stderr, "bench: %s\n", line); /* in one piece: the other roles may have something to say too */
    return 1;
}

uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

struct samples *samples_new(size_t cap)
{
    struct samples *samples = shared_new(sizeof *samples + cap * sizeof samples->ns[0]);
    if (samples != NULL)
        samples->cap = cap;
    return samples;
}

void samples_free(struct samples *samples)
{
    if (samples != NULL)
        shared_free(samples, sizeof *samples + samples->cap * sizeof samples->ns[0]);
}

void spin_until(uint64_t then_ns)
{
    while (now_ns() < then_ns)
        ;
}

static int compare_ns(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* The least sample that `per_mille` of all do not exceed. */
static double rank(const struct samples *samples, size_t per_mille)
{
    size_t at = (samples->n * per_mille + 999) / 1000;
    return (double)samples->ns[at == 0 ? 0 : at - 1];
}

struct summary samples_summary(struct samples *samples)
{
    if (samples->n == 0)
        return (struct summary){0};
    qsort(samples->ns, samples->n, sizeof samples->ns[0], compare_ns);
    return (struct summary){rank(samples, 500), rank(samples, 990), rank(samples, 999), rank(samples, 1000),
                            samples->n};
}

void samples_save(FILE *raw, const struct samples *samples, const char *figure, int run)
{
    if (raw == NULL)
        return;
    fprintf(raw, "%s\trun %d\t%zu samples, ns\t", figure, run + 1, samples->n);
    for (size_t i = 0; i < samples->n; i++)
        fprintf(raw, i == 0 ? "%llu" : " %llu", (unsigned long long)samples->ns[i]);
    fputc('\n', raw);
}

struct figure *table_figure(struct table *table, const char *name, enum unit unit, char in)
{
    for (size_t i = 0; i < table->n; i++)
        if (strcmp(table->figures[i].name, name) == 0)
            return &table->figures[i];
    if (table->n == BENCH_FIGURES_MAX)
        abort(); /* our own table is too small */
    struct figure *figure = &table->figures[table->n++];
    *figure = (struct figure){.unit = unit, .in = in};
    snprintf(figure->name, sizeof figure->name, "%s", name);
    return figure;
}

void figure_add(struct figure *figure, double value, double limit, size_t count)
{
    int run = figure->n_runs++;
    figure->value[run] = value;
    figure->ratio[run] = limit > 0 ? value / limit : 0;
    figure->count += count;
}

void figure_add_summary(struct figure *figure, const struct summary *summary, double limit)
{
    int run = figure->n_runs;
    figure_add(figure, summary->p50, limit, summary->n);
    figure->p99[run] = summary->p99;
    figure->p999[run] = summary->p999;
    figure->max[run] = summary->max;
    figure->has_tail = true;
}

void figure_also(struct figure *figure, char in, double limit)
{
    int run = figure->n_runs - 1;
    figure->also = in;
    figure->also_ratio[run] = limit > 0 ? figure->value[run] / limit : 0;
}

static double median(const double *of, int n)
{
    double sorted[BENCH_RUNS_MAX];
    memcpy(sorted, of, (size_t)n * sizeof of[0]);
    qsort(sorted, (size_t)n, sizeof sorted[0], compare_doubles);
    return n % 2 != 0 ? sorted[n / 2] : (sorted[n / 2 - 1] + sorted[n / 2]) / 2;
}

static double extreme(const double *of, int n, int sign)
{
    double found = of[0];
    for (int i = 1; i < n; i++)
        if (sign * of[i] > sign * found)
            found = of[i];
    return found;
}

/* How a unit is shown: three digits or so. */
static const struct {
    const char *name;
    double divisor;
    int decimals;
} units[] = {[UNIT_NS] = {"ns", 1, 0},
             [UNIT_US] = {"us", 1e3, 1},
             [UNIT_THOUSANDS_PER_S] = {"k/s", 1e3, 1},
             [UNIT_MILLIONS_PER_S] = {"M/s", 1e6, 2},
             [UNIT_GIGABYTES_PER_S] = {"GB/s", 1e9, 2},
             [UNIT_PERCENT] = {"%", 1, 2},
             [UNIT_PER_S] = {"/s", 1, 0},
             [UNIT_MEBIBYTES] = {"MiB", 1024 * 1024, 1},
             [UNIT_KIBIBYTES] = {"KiB", 1024, 1},
             [UNIT_PER_EVENT] = {"", 1, 3}};

enum { COLUMNS = 7, CELL = BENCH_NAME_MAX };

/* Behind what `cell` says already. */
static void add_ratio(char cell[CELL], const double *ratio, int n, char in)
{
    size_t len = strlen(cell);
    if (in != 0 && extreme(ratio, n, -1) > 0)
        snprintf(cell + len, CELL - len, "%s%.2f %c", len > 0 ? ", " : "", median(ratio, n), in);
}

static void fill_row(char row[COLUMNS][CELL], const struct figure *figure)
{
    int n = figure->n_runs, decimals = units[figure->unit].decimals;
    double divisor = units[figure->unit].divisor;
    snprintf(row[0], CELL, "%s", figure->name);
    snprintf(row[1], CELL, "%.*f (%.*f..%.*f) %s", decimals, median(figure->value, n) / divisor, decimals,
             extreme(figure->value, n, -1) / divisor, decimals, extreme(figure->value, n, 1) / divisor,
             units[figure->unit].name);
    add_ratio(row[2], figure->ratio, n, figure->in);
    add_ratio(row[2], figure->also_ratio, n, figure->also);
    if (figure->has_tail) {
        snprintf(row[3], CELL, "%.*f", decimals, median(figure->p99, n) / divisor);
        snprintf(row[4], CELL, "%.*f", decimals, median(figure->p999, n) / divisor);
        snprintf(row[5], CELL, "%.*f", decimals, extreme(figure->max, n, 1) / divisor);
    }
    snprintf(row[6], CELL, "%zu", figure->count);
}

static void print(const struct table *table, bool markdown)
{
    static const char *const headings[COLUMNS] = {"figure", "median (min..max)", "in limits", "p99", "p99.9", "max",
                                                  "count"};
    char rows[BENCH_FIGURES_MAX + 1][COLUMNS][CELL] = {0};
    int width[COLUMNS] = {0};
    for (int c = 0; c < COLUMNS; c++)
        snprintf(rows[0][c], CELL, "%s", headings[c]);
    for (size_t i = 0; i < table->n; i++)
        fill_row(rows[i + 1], &table->figures[i]);
    for (size_t i = 0; i <= table->n; i++)
        for (int c = 0; c < COLUMNS; c++)
            width[c] = (int)strlen(rows[i][c]) > width[c] ? (int)strlen(rows[i][c]) : width[c];

    for (size_t i = 0; i <= table->n; i++) {
        for (int c = 0; c < COLUMNS; c++)
            printf("%s%*s%s", markdown ? "| " : "", c == 0 ? -width[c] : width[c], rows[i][c], markdown ? " " : "  ");
        puts(markdown ? "|" : "");
        if (i == 0 && markdown)
            puts("|---|---:|---:|---:|---:|---:|---:|");
    }
}

/* Times in ns, rates per second; what a figure has not is left empty. */
static void save_figures(FILE *to, const struct table *table, int first_run)
{
    fputs("figure\tunit\trun\tvalue\tlimit\tratio\tp99\tp99.9\tmax\tcount\n", to);
    for (size_t i = 0; i < table->n; i++) {
        const struct figure *figure = &table->figures[i];
        for (int run = 0; run < figure->n_runs; run++) {
            fprintf(to, "%s\t%s\t%d\t%.6g\t", figure->name, units[figure->unit].name, first_run + run + 1,
                    figure->value[run]);
            if (figure->in != 0 && figure->ratio[run] > 0)
                fprintf(to, "%c\t%.6g\t", figure->in, figure->ratio[run]);
            else
                fputs("\t\t", to);
            if (figure->has_tail)
                fprintf(to, "%.6g\t%.6g\t%.6g\t", figure->p99[run], figure->p999[run], figure->max[run]);
            else
                fputs("\t\t\t", to);
            fprintf(to, "%zu\n", figure->count / (size_t)figure->n_runs);
        }
    }
}

int table_report(const struct table *table, const struct bench_options *options, const struct placement *placement,
                 const char *version, const char *question)
{
    printf(options->markdown ? "**%s**\n\n" : "%s\n\n", question);
    machine_print(stdout, placement, options->markdown ? "    " : "", version);
    printf("\n");
    print(table, options->markdown);
    printf("\nruns: %d; a ratio to a limit (H hop, R bare ring, W wake, S stream, A append, D fdatasync, B bare "
           "client, M MULTI, "
           "E evbus) has both sides from the same run\n\n",
           options->n_runs);
    if (options->figures != NULL) {
        machine_print(options->figures, placement, "# ", version);
        save_figures(options->figures, table, options->first_run);
        if (fclose(options->figures) != 0)
            return fails("the figures could not be written");
    }
    return options->raw == NULL || fclose(options->raw) == 0 ? 0 : fails("the raw samples could not be written");
}
