/* ringbed.h: a ring of our own memory, played step by step, and frames whose every byte follows from who made them and their
 * number. A slot's life is played by hand: alive is a lock word that carries its tid, dead is one that does not. */
#ifndef RINGBED_H
#define RINGBED_H

#include "ring.h"

#define CELLS 64 /* of the small ring; a frame takes at most 16 of them */
#define TID   4711

struct bed {
    struct slot *slots;
    struct ring ring;
    void *memory;
};

struct bed bed_of(uint64_t n_cells);
struct bed bed_make(void); /* of CELLS */
void bed_end(struct bed *bed);

void bed_set_slot(struct bed *bed, uint32_t slot, bool is_alive);
uint64_t *bed_word(struct bed *bed, uint64_t pos);
uint64_t *bed_cells(struct bed *bed, uint64_t pos);
void bed_set_tail(struct bed *bed, uint64_t tail);
void bed_set_released(struct bed *bed, uint64_t released);

/* A frame of a maker, and: is every byte of this copy of the frame at pos from its maker? */
void bed_fill(uint64_t *frame, uint32_t n_cells, uint32_t maker, uint64_t number);
bool bed_is_whole(const uint64_t *frame, uint64_t pos);

/* A run of them, one behind the other: numbers from `number` on. Returns their cells. */
uint32_t bed_fill_run(uint64_t *frames, const uint32_t *lengths, size_t n, uint32_t maker, uint64_t number);

uint64_t bed_mix(uint64_t x);

/* Steps of a publish; each returns the position, and fails the test when there is no room. */
uint64_t bed_claim(struct bed *bed, struct claim *claim, uint32_t slot, uint32_t n_cells);
uint64_t bed_write(struct bed *bed, struct claim *claim, uint32_t slot, uint32_t n_cells, uint64_t number);
uint64_t bed_write_run(struct bed *bed, struct claim *claim, uint32_t slot, const uint32_t *lengths, size_t n,
                       uint64_t number);
/* The first n frames of a run that is claimed, as by a writer that stops there. */
void bed_write_front(const struct claim *run, const uint64_t *frames, const uint32_t *lengths, size_t n);
uint64_t bed_publish(struct bed *bed, uint32_t slot, uint32_t n_cells, uint64_t number);

enum ring_seen bed_look(struct bed *bed, uint64_t pos);
enum ring_seen bed_copy(struct bed *bed, uint64_t pos, uint64_t *frame);

#endif
