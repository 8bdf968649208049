/*
 * fuzz_command.c - client commands from hostile texts: every outcome is complete and consistent.
 */
#include "protocol/command.h"

#include "base/mem.h"
#include "base/utf8.h"
#include "protocol/json_text.h"
#include "protocol/stamp.h"

#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool condition)
{
    if (!condition)
        abort();
}

static bool needs_channels(enum command_kind kind)
{
    return kind == COMMAND_SUBSCRIBE || kind == COMMAND_UNSUBSCRIBE || kind == COMMAND_SNAPSHOT;
}

static void check_positions(const struct command *c)
{
    require((c->since != NULL) == (c->since_count > 0));
    require(c->since_count == 0 || c->kind == COMMAND_SUBSCRIBE);
    for (size_t i = 0; i < c->since_count; i++) {
        const struct command_since *position = &c->since[i];
        require(utf8_is_valid(position->channel.ptr, position->channel.len));
        require(stamp_epoch_is_valid(position->epoch));
        require(position->seq <= STAMP_NUMBER_MAX);
        require(command_find_since(c, position->channel) == position); /* each once */
    }
    for (size_t i = 0; i < c->channel_count; i++) {
        const struct command_since *position = command_find_since(c, c->channels[i]);
        require(position == NULL || slice_equal(position->channel, c->channels[i]));
    }
}

static void check_command(const struct command *c)
{
    require(c->kind <= COMMAND_PING);
    require((c->channel_count > 0) == needs_channels(c->kind));
    for (size_t i = 0; i < c->channel_count; i++)
        require(utf8_is_valid(c->channels[i].ptr, c->channels[i].len));
    require(c->max_rate >= -1);
    check_positions(c);
    require((c->channel.ptr != NULL) == (c->kind == COMMAND_PUBLISH));
    require((c->data.ptr != NULL) == (c->kind == COMMAND_PUBLISH));
    require(utf8_is_valid(c->channel.ptr, c->channel.len));
    require(c->data.ptr == NULL || json_text_is_valid(c->data));
    require(c->echo.len == 0 || (c->kind == COMMAND_PING && json_text_is_valid(c->echo)));
    require(command_mode_name(c->mode) != NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!utf8_is_valid(data, size))
        return 0;
    struct command c;
    const char *why;
    char *copy = mem_dup(data, size);
    bool is_json = json_text_is_valid(slice_of(copy, size));
    enum error_code code = command_parse(slice_of(copy, size), &c, &why);
    free(copy); /* nothing may borrow from it */

    require((why == NULL) == (code == ERR_NONE));
    require((code == ERR_BAD_JSON) == !is_json);
    require(code == ERR_NONE || code == ERR_BAD_JSON || code == ERR_BAD_COMMAND ||
            code == ERR_UNKNOWN_ACTION);
    require(c.id[0] == '\0' || json_text_is_valid(slice_str(c.id)));
    if (code == ERR_NONE)
        check_command(&c);
    command_fini(&c);
    return 0;
}
