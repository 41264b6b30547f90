/* stat.h: what stat.c shows of one thread, for others that show it, too. */
#ifndef EVBUS_STAT_H
#define EVBUS_STAT_H

#include <evbus/admin.h>

#include "layout.h"

/* false: nobody has the slot. */
bool stat_fill_slot(const struct control *control, uint32_t number, struct evbus_slot_stat *out);

#endif
