/* load.c: events that prove themselves. */
#include "load.h"

#include "frame.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HEAD_BYTES 44 /* {"p":"00000001","n":"0000000000000001","s":" */
#define N_KEYS     7

static uint64_t mix(uint64_t z)
{
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

static void make_key(uint64_t number, char out[3])
{
    out[0] = 'k';
    out[1] = (char)('0' + number % N_KEYS);
    out[2] = '\0';
}

static void put_hex(char *to, uint64_t value, int digits)
{
    while (digits-- > 0) {
        to[digits] = "0123456789abcdef"[value & 15];
        value >>= 4;
    }
}

size_t load_make(char out[LOAD_BYTES_MAX], uint32_t producer, uint64_t number)
{
    memcpy(out, "{\"p\":\"00000000\",\"n\":\"0000000000000000\",\"s\":\"", HEAD_BYTES);
    put_hex(out + 6, producer, 8);
    put_hex(out + 21, number, 16);
    uint64_t seed = mix((uint64_t)producer << 40 ^ number);
    size_t at = HEAD_BYTES;
    for (uint64_t left = seed % 64; left > 0; left--, at += 8) { /* letters A..P, others in each eight of them */
        uint64_t word = (mix(seed + left) & UINT64_C(0x0f0f0f0f0f0f0f0f)) + UINT64_C(0x4141414141414141);
        memcpy(out + at, &word, 8);
    }
    memcpy(out + at, "\"}", 2);
    return at + 2;
}

struct evbus_event load_event(struct load *out, uint32_t producer, uint64_t number, uint64_t timeout_ns)
{
    make_key(number, out->key);
    return (struct evbus_event){
        .size = sizeof(struct evbus_event),
        .topic = "test.a.one",
        .key = out->key,
        .payload = out->payload,
        .payload_len = load_make(out->payload, producer, number),
        .payload_is_checked = true,
        .timeout_ns = timeout_ns,
    };
}

int load_publish(struct evbus *bus, uint32_t producer, uint64_t number, uint64_t timeout_ns)
{
    struct load load;
    struct evbus_event event = load_event(&load, producer, number, timeout_ns);
    return evbus_publish(bus, &event, NULL);
}

bool load_read(const struct evbus_delivery *delivery, uint32_t *out_producer, uint64_t *out_number)
{
    const char *found = delivery->payload;
    char wanted[LOAD_BYTES_MAX];
    char key[3];
    if (delivery->payload_len < HEAD_BYTES)
        return false;
    *out_producer = (uint32_t)strtoul(found + 6, NULL, 16);
    *out_number = strtoull(found + 21, NULL, 16);
    make_key(*out_number, key);
    return load_make(wanted, *out_producer, *out_number) == delivery->payload_len &&
           memcmp(found, wanted, delivery->payload_len) == 0 && strcmp(delivery->key, key) == 0 &&
           strcmp(delivery->topic, "test.a.one") == 0;
}

uint64_t load_cells(const struct evbus_delivery *delivery)
{
    return frame_cells(delivery->key_len, 0, delivery->payload_len);
}
