/*
 * redis_url.h - where a Redis is: redis://[user:pass@]host[:port][/db],
 * unix://[user:pass@]path[?db=N]
 */
#ifndef TICKCAST_PROTOCOL_REDIS_URL_H
#define TICKCAST_PROTOCOL_REDIS_URL_H

#include <stdbool.h>
#include <stdint.h>

struct redis_url {
    bool is_unix;
    char host[256]; /* name or address without brackets; for unix the path (at most 107 bytes) */
    uint16_t port;  /* default 6379 */
    char user[128]; /* percent-decoded; "" when absent */
    char password[256];
    unsigned db; /* 0 .. 65535 */
};

/* False, with static text for people in *why, when the URL is malformed or its scheme unknown.
 * rediss:// is refused with a message of its own: TLS is not built yet. */
bool redis_url_parse(const char *text, struct redis_url *out, const char **why);

#endif
