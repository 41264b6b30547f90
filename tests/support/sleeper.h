/* sleeper.h: a producer that is stopped in the middle of its claim. */
#ifndef SLEEPER_H
#define SLEEPER_H

#include <evbus/evbus.h>

/* As load_publish() with 5 s of patience, in single steps on a bus of one partition: SIGSTOPs its process once its claim
 * stands at the tail, and goes on at full speed when that is continued. Not stopped where a pad comes first. Once at a time. */
int sleeper_publish(struct evbus *bus, uint32_t producer, uint64_t number);

#endif
