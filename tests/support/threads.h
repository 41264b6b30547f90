/* threads.h: the threads of this process. */
#ifndef THREADS_H
#define THREADS_H

/* How many have that name; NULL: all of them. */
unsigned count_threads(const char *name);

#endif
