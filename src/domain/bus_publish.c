/*
 * bus_publish.c - clients' publications, from their worker to Redis and the answer back.
 *
 * Always by the script, whatever the namespace keeps: the client is promised a number.
 */
#include "base/mem.h"
#include "domain/bus_priv.h"
#include "domain/store.h"
#include "protocol/channel.h"

#include <stdlib.h>

struct publish_message {
    struct message message;
    struct bus *bus;
    unsigned worker;
    uint64_t token;
    uint8_t channel_len;
    size_t payload_len;
    char bytes[]; /* channel, payload */
};

static enum error_code error_of(enum store_status status)
{
    return status == STORE_OK ? ERR_NONE : ERR_FEED_UNAVAILABLE;
}

static void on_done(void *arg, const struct store_result *result)
{
    struct publish_message *m = arg;
    struct bus *b = m->bus;
    if (m->worker < b->hub_count)
        hub_post_published(b->hubs[m->worker], m->token, error_of(result->status), result->seq,
                           result->epoch);
    free(m);
}

static void run_publish(struct message *message)
{
    struct publish_message *m = (struct publish_message *)message;
    struct bus *b = m->bus;
    struct slice channel = slice_of(m->bytes, m->channel_len);
    struct slice payload = slice_of(m->bytes + m->channel_len, m->payload_len);
    const struct config_namespace *ns =
        config_namespace(b->setup.config, channel_namespace(channel));
    store_publish(b->setup.store, channel, payload, ns->history, ns->history_ttl_s, on_done, m);
}

void bus_post_publish(void *arg, unsigned worker, struct slice channel, struct slice payload,
                      uint64_t token)
{
    struct bus *b = arg;
    struct publish_message *m = mem_alloc(sizeof *m + channel.len + payload.len);
    *m = (struct publish_message){.message.run = run_publish,
                                  .bus = b,
                                  .worker = worker,
                                  .token = token,
                                  .channel_len = (uint8_t)channel.len,
                                  .payload_len = payload.len};
    memcpy(m->bytes, channel.ptr, channel.len);
    memcpy(m->bytes + channel.len, payload.ptr, payload.len);
    loop_post(b->setup.loop, &m->message);
}
