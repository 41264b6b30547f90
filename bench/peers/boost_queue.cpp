// boost_queue.cpp: see boost_queue.h.
#include "boost_queue.h"

#include <boost/interprocess/ipc/message_queue.hpp>

using namespace boost::interprocess;

struct boost_queue {
    message_queue queue;
};

bool boost_queue_create(const char *name, size_t depth, size_t len_max)
try {
    message_queue(create_only, name, depth, len_max, permissions(0600));
    return true;
} catch (const interprocess_exception &) {
    return false;
}

void boost_queue_remove(const char *name)
{
    message_queue::remove(name);
}

struct boost_queue *boost_queue_open(const char *name)
try {
    return new boost_queue{message_queue(open_only, name)};
} catch (const interprocess_exception &) {
    return nullptr;
}

bool boost_queue_send(struct boost_queue *queue, const void *bytes, size_t len)
try {
    queue->queue.send(bytes, len, 0);
    return true;
} catch (const interprocess_exception &) {
    return false;
}

long boost_queue_receive(struct boost_queue *queue, void *out, size_t cap, bool waits)
try {
    message_queue::size_type n = 0;
    unsigned priority;
    if (waits)
        queue->queue.receive(out, cap, n, priority);
    else if (!queue->queue.try_receive(out, cap, n, priority))
        return 0;
    return static_cast<long>(n);
} catch (const interprocess_exception &) {
    return -1;
}
