/* check.h: the checks of the demo that both acts need. Each prints its line; how many do not hold. */
#ifndef DEMO_CHECK_H
#define DEMO_CHECK_H

#include "conductor.h"
#include "orders.h"

__attribute__((format(printf, 2, 3))) unsigned check_say(bool holds, const char *format, ...);

/* check.c */
unsigned check_stock(struct demo *demo, const struct orders *orders);
unsigned check_accounts(struct demo *demo, const struct orders *orders);

/* check_mails.c */
unsigned check_mails(struct demo *demo, const struct orders *orders);

#endif
