/* postgres.h: a PostgreSQL of the test program's own.
 *
 * Whoever calls postgres_url() has a server for all tests of its program: made, started and ended by Criterion's hooks, in a folder of
 * its own, on a unix socket there, and as another user where we are root, whom initdb refuses. It dies with the program. */
#ifndef POSTGRES_H
#define POSTGRES_H

/* How libpq gets to it. Skips the test where PostgreSQL is not installed, and fails it where it did not start. */
const char *postgres_url(void);

#endif
