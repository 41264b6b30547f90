/* segment.h: one file of a partition's journal. See segment.c. */
#ifndef EVBUS_SEGMENT_H
#define EVBUS_SEGMENT_H

#include "file.h"
#include "frame.h"

/* Whose journal it is. */
struct segment_place {
    char folder[FILE_PATH_MAX]; /* of the partition: <state dir>/<bus>/<log>/<partition> */
    uint8_t uuid[16];           /* of the bus */
    char log[NAME_BYTES];
    uint32_t partition;
    uint64_t ring_cells;
    uint64_t n_cells; /* of a segment: a multiple of ring_cells, a power of two */
};

struct segment {
    int fd; /* -1: none */
    char path[FILE_PATH_MAX];
    uint64_t base;         /* position of its first cell: a multiple of n_cells */
    uint64_t prev_end;     /* where the segment before it ends; below base where a restart skipped positions */
    uint64_t n_cells;      /* that it has room for */
    uint64_t header_bytes; /* cells follow */
    uint64_t created_ns;   /* wall clock */
};
#define SEGMENT_NONE ((struct segment){.fd = -1})

/* Cells of a segment, for rings of so many cells: 16 rings, but 64 MiB at most and a ring at least. */
uint64_t segment_cells(uint64_t ring_cells);

/* The path of the segment that begins at base. */
void segment_path(const struct segment_place *place, uint64_t base, char out_path[FILE_PATH_MAX]);

/* Where in the file the cell of a position stands, bytes. */
uint64_t segment_offset(const struct segment *segment, uint64_t pos);

/* Makes the segment that begins at base, with what its ids mean (a JSON text), on disk with its name; opens it for writing. If it
 * is there already, that one is opened. */
int segment_create(struct segment *out_segment, const struct segment_place *place, uint64_t base, uint64_t prev_end,
                   const char *names, size_t names_len, struct error *err);

/* Opens the segment that begins at base, and checks what its header says. EVBUS_ENOTFOUND; EVBUS_ECORRUPT; EVBUS_ECONFLICT: it is
 * another bus's. */
int segment_open(struct segment *out_segment, const struct segment_place *place, uint64_t base, bool for_writing,
                 struct error *err);

/* What its ids mean: the JSON text of its header, to be freed. */
int segment_names(const struct segment *segment, char **out_text, size_t *out_len, struct error *err);

/* Cells at a position that lies in it. */
int segment_write(const struct segment *segment, uint64_t pos, const uint64_t *cells, size_t n_cells,
                  struct error *err);

/* Whole cells from a position on, as many as are there, at most n_cells. */
int segment_read(const struct segment *segment, uint64_t pos, uint64_t *cells, size_t n_cells, size_t *out_n_cells,
                 struct error *err);

/* Cells that have been written set out for the disk; nobody waits. segment_sync() has less to do then, and tells what fails. */
void segment_begin_sync(const struct segment *segment, uint64_t pos, size_t n_cells);

int segment_sync(const struct segment *segment, struct error *err);

/* Another file for the same positions, of another name, empty; and what stands below `until` in the first one, copied. */
int segment_draft(struct segment *out_draft, const struct segment *of, struct error *err);
int segment_copy(const struct segment *draft, const struct segment *of, uint64_t until, struct error *err);

/* rc EVBUS_OK: all of the draft is on disk, then has the segment's name, and is it from here on; whoever reads the old one has it open.
 * Else it is dropped. rc, or what failed. */
int segment_take_place(struct segment *draft, struct segment *segment, int rc, struct error *err);

void segment_close(struct segment *segment); /* fine on SEGMENT_NONE */

#endif
