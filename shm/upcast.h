/* upcast.h: a payload of one major version made into one of the next. See upcast.c. */
#ifndef EVBUS_UPCAST_H
#define EVBUS_UPCAST_H

#include "version.h"

#define UPCASTERS_MAX 64

struct upcasters; /* a member's; they never change */

/* Copied. EVBUS_OK; EVBUS_EINVAL; EVBUS_ENOSPC. */
int upcasters_make(const struct evbus_upcaster *given, size_t n, struct upcasters **out, struct error *err);
void upcasters_free(struct upcasters *upcasters); /* NULL is fine */

/* version_choose() with them; NULL: there are none. */
bool upcasters_choose(const struct upcasters *upcasters, const struct version_accepts *accepts, const char *topic,
                      const struct version *published, unsigned n_published, struct version_choice *out);

/* Makes to_major.0 of it, which upcasters_choose() has found to be possible. `from`: a NUL stands behind its payload, as behind
 * *out_payload, which is to be freed. EVBUS_OK; EVBUS_EINVAL: it cannot be made, `why` says why; EVBUS_EAGAIN: not now. */
int upcasters_raise(const struct upcasters *upcasters, const char *topic, const struct evbus_version *from,
                    uint16_t to_major, size_t payload_max, char **out_payload, size_t *out_len,
                    char why[EVBUS_ERROR_MAX + 1]);

#endif
