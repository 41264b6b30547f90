/* ipc_peers.c: who hands events from process to process, in the order of the table. HAS_...: its headers were there. */
#include "peers.h"

extern const struct peer peer_evbus, peer_evbus_group, peer_pipe, peer_stream, peer_mq;

#ifdef HAS_BOOST
extern const struct peer peer_boost;
#define BOOST &peer_boost
#else
#define BOOST NULL
#endif
#ifdef HAS_ZMQ
extern const struct peer peer_zmq;
#define ZMQ &peer_zmq
#else
#define ZMQ NULL
#endif
#ifdef HAS_ICEORYX
extern const struct peer peer_iceoryx;
#define ICEORYX &peer_iceoryx
#else
#define ICEORYX NULL
#endif

const struct peer_choice ipc_peers[] = {
    {&peer_evbus, NULL, NULL},
    {&peer_evbus_group, NULL, NULL},
    {&peer_pipe, NULL, NULL},
    {&peer_stream, NULL, NULL},
    {&peer_mq, NULL, NULL},
    {BOOST, "Boost message_queue", "g++, libboost-dev"},
    {ICEORYX, "iceoryx", "iceoryx, libiceoryx-binding-c-dev"},
    {ZMQ, "ZeroMQ ipc", "libzmq3-dev"},
    {NULL, NULL, NULL},
};
