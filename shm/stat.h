/* stat.h: what stat.c shows, for others that show it, too. */
#ifndef EVBUS_STAT_H
#define EVBUS_STAT_H

#include <evbus/admin.h>

#include "error.h"
#include "layout.h"

/* false: nobody has the slot. */
bool stat_fill_slot(const struct control *control, uint32_t number, struct evbus_slot_stat *out);

/* All of it. rows: what out_stat points into, to be freed. */
int stat_collect(struct evbus *bus, struct evbus_stat *out_stat, void **out_rows, struct error *err);

#endif
