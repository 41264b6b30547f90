/* reader.h: what mirror.c needs of reader.c. */
#ifndef EVBUS_READER_H
#define EVBUS_READER_H

#include "ring.h"

#include <evbus/evbus.h>

#define READER_PARKED UINT64_MAX

/* Goes on at a frame's position in one partition, or at the oldest that is kept, if that is later; what lies between counts as lost.
 * READER_PARKED: gives nothing of it, until it goes on again. false: it does not read that partition. The reader's thread. */
bool reader_go_to(struct evbus_reader *reader, const struct ring *ring, uint64_t position);

/* Gives also the events of topics that catalogues will add to the logs that it reads: else they would be passed by before anybody knows of them. */
void reader_want_what_comes(struct evbus_reader *reader);

/* Gives up to so many events of one partition in a row; a batch is of one. */
void reader_set_turn(struct evbus_reader *reader, unsigned n_events);

/* Where it goes on; READER_PARKED: nowhere. */
uint64_t reader_position(struct evbus_reader *reader, const struct ring *ring);

#endif
