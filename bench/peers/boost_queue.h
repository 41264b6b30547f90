/* boost_queue.h: Boost.Interprocess message_queue for C. Nothing is added: a call each, exceptions become results. */
#ifndef BENCH_BOOST_QUEUE_H
#define BENCH_BOOST_QUEUE_H

#include <stdbool.h>
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

struct boost_queue;

bool boost_queue_create(const char *name, size_t depth, size_t len_max);
void boost_queue_remove(const char *name);
struct boost_queue *boost_queue_open(const char *name); /* lives as long as the process. NULL: no */
bool boost_queue_send(struct boost_queue *queue, const void *bytes, size_t len);
long boost_queue_receive(struct boost_queue *queue, void *out, size_t cap,
                         bool waits); /* bytes; 0: nothing; -1: failed */

#ifdef __cplusplus
}
#endif

#endif
