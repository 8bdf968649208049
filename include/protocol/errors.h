/*
 * errors.h - the errors a client can be told, in one table: symbol, HTTP-like code, stable name.
 */
#ifndef TICKCAST_PROTOCOL_ERRORS_H
#define TICKCAST_PROTOCOL_ERRORS_H

#define ERROR_TABLE(X)                                                                            \
    X(BAD_JSON, 400, "bad_json", "the message is not JSON")                                       \
    X(BAD_COMMAND, 400, "bad_command", "a member is missing or of the wrong type")                \
    X(BAD_CHANNEL, 400, "bad_channel", "the channel name is malformed")                           \
    X(UNAUTHORIZED, 401, "unauthorized", "sign in first")                                         \
    X(FORBIDDEN, 403, "forbidden", "this is not allowed here")                                    \
    X(UNKNOWN_NAMESPACE, 404, "unknown_namespace", "the channel's namespace is not configured")   \
    X(UNKNOWN_ACTION, 404, "unknown_action", "there is no such action")                           \
    X(NOT_SUBSCRIBED, 409, "not_subscribed", "the channel is not subscribed")                     \
    X(TOO_LARGE, 413, "too_large", "the message or list is too large")                            \
    X(RATE_LIMITED, 429, "rate_limited", "too many commands per second")                          \
    X(TOO_MANY_CHANNELS, 429, "too_many_channels", "the limit of channels per client is reached") \
    X(FEED_UNAVAILABLE, 503, "feed_unavailable", "the feed is lost for now")

enum error_code {
    ERR_NONE,
#define ERROR_ENUM(symbol, code, name, text) ERR_##symbol,
    ERROR_TABLE(ERROR_ENUM)
#undef ERROR_ENUM
        ERR_COUNT
};

struct error_info {
    int code;
    const char *name; /* stable */
    const char *text; /* for people */
};

extern const struct error_info error_table[ERR_COUNT];

#endif
