/* check.h: the checks of the demo that have a file of their own. Each prints its line; how many do not hold. */
#ifndef DEMO_CHECK_H
#define DEMO_CHECK_H

#include "conductor.h"
#include "orders.h"

__attribute__((format(printf, 2, 3))) unsigned check_say(bool holds, const char *format, ...);

unsigned check_mails(struct demo *demo, const struct orders *orders);

#endif
