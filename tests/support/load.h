/* load.h: events that prove themselves: producer and number make every byte of the payload. */
#ifndef LOAD_H
#define LOAD_H

#include <evbus/evbus.h>

#define LOAD_BYTES_MAX 640

/* Writes the payload of a producer's n-th event, a JSON text; returns its length. */
size_t load_make(char out[LOAD_BYTES_MAX], uint32_t producer, uint64_t number);

/* What an event of it points to. */
struct load {
    char payload[LOAD_BYTES_MAX];
    char key[3];
};

/* It on test.a.one, keyed by the number so that all partitions get some. */
struct evbus_event load_event(struct load *out, uint32_t producer, uint64_t number, uint64_t timeout_ns);

/* Publishes it. */
int load_publish(struct evbus *bus, uint32_t producer, uint64_t number, uint64_t timeout_ns);

/* Whose is it? false: not every byte and the key are as load_publish() made them. */
bool load_read(const struct evbus_delivery *delivery, uint32_t *out_producer, uint64_t *out_number);

/* Cells of 64 bytes that it takes in a ring. */
uint64_t load_cells(const struct evbus_delivery *delivery);

#endif
