/*
 * ops_client.c - one HTTP request, on libevent's client.
 *
 * A loop of its own turns until the answer is there, so that callers see a function that blocks.
 */
#include "ctl/ops_client.h"

#include "protocol/config.h"

#include <event2/buffer.h>
#include <event2/event.h>
#include <event2/http.h>
#include <stdio.h>

#define REPLY_BYTES_MAX (16 << 20) /* larger than any answer of a node's */

struct exchange {
    int status; /* 0 until there is an answer */
    struct buf *reply;
};

bool ops_client_init(struct ops_client *c, const char *url)
{
    static const char scheme[] = "http://";
    if (strncmp(url, scheme, sizeof scheme - 1) != 0)
        return false;
    struct buf address = {0};
    buf_append_str(&address, url + sizeof scheme - 1);
    if (address.len > 0 && address.data[address.len - 1] == '/')
        address.len--;
    buf_append(&address, "", 1);
    bool is_address = config_split_address(address.data, c->host, sizeof c->host, &c->port);
    buf_fini(&address);
    return is_address && c->port != 0;
}

/* request is NULL when the connection failed. */
static void on_answer(struct evhttp_request *request, void *arg)
{
    struct exchange *x = arg;
    if (request == NULL || evhttp_request_get_response_code(request) == 0)
        return;
    struct evbuffer *body = evhttp_request_get_input_buffer(request);
    size_t len = evbuffer_get_length(body);
    if (len > 0)
        buf_append(x->reply, evbuffer_pullup(body, -1), len);
    x->status = evhttp_request_get_response_code(request);
}

static bool send_request(struct evhttp_connection *connection, const struct ops_client *c,
                         struct exchange *x, enum evhttp_cmd_type method, const char *path,
                         struct slice body)
{
    bool is_v6 = strchr(c->host, ':') != NULL;
    char host[sizeof c->host + 16];
    snprintf(host, sizeof host, is_v6 ? "[%s]:%u" : "%s:%u", c->host, (unsigned)c->port);
    struct evhttp_request *request = evhttp_request_new(on_answer, x);
    if (request == NULL)
        return false;
    struct evkeyvalq *headers = evhttp_request_get_output_headers(request);
    evhttp_add_header(headers, "Host", host);
    evhttp_add_header(headers, "Connection", "close");
    if (method == EVHTTP_REQ_POST) {
        evhttp_add_header(headers, "Content-Type", "application/json");
        evbuffer_add(evhttp_request_get_output_buffer(request), body.ptr, body.len);
    }
    /* It takes the request, also when it fails. */
    return evhttp_make_request(connection, request, method, path) == 0;
}

static int ask(const struct ops_client *c, enum evhttp_cmd_type method, const char *path,
               struct slice body, struct buf *reply)
{
    struct exchange x = {.reply = reply};
    struct event_base *base = event_base_new();
    struct evhttp_connection *connection =
        base != NULL ? evhttp_connection_base_new(base, NULL, c->host, c->port) : NULL;
    if (connection != NULL) {
        evhttp_connection_set_timeout(connection, OPS_CLIENT_TIMEOUT_S);
        evhttp_connection_set_max_body_size(connection, REPLY_BYTES_MAX);
        if (send_request(connection, c, &x, method, path, body))
            event_base_dispatch(base);
        evhttp_connection_free(connection);
    }
    if (base != NULL)
        event_base_free(base);
    if (x.status == 0)
        buf_printf(reply, "%s:%u does not answer", c->host, (unsigned)c->port);
    return x.status;
}

int ops_client_post(const struct ops_client *c, const char *path, struct slice body,
                    struct buf *reply)
{
    return ask(c, EVHTTP_REQ_POST, path, body, reply);
}

int ops_client_get(const struct ops_client *c, const char *path, struct buf *reply)
{
    return ask(c, EVHTTP_REQ_GET, path, (struct slice){0}, reply);
}
