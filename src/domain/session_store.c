/*
 * session_store.c - saving and taking client sessions over the command link.
 *
 * Main thread. Saves and takes go through one queue, so that a session that is saved and asked for
 * on the same node meets itself in the right order. A drain of many thousand clients fills the
 * queue, not the link: so many commands and bytes are under way at a time, and no more.
 */
#include "domain/session_store.h"

#include "base/list.h"
#include "base/log.h"
#include "base/mem.h"
#include "domain/resume.h"

#include <stdio.h>
#include <stdlib.h>

#define SENT_MAX          256      /* commands that Redis has not answered */
#define SENT_BYTES_MAX    8388608  /* 8 MiB of sessions in them */
#define WAITING_BYTES_MAX 67108864 /* 64 MiB of sessions that wait: more are not stored */
#define TICK_MS           25
#define ANSWER_MS         2000 /* a take is answered by then */
#define LOG_EVERY_MS      10000

/* Until a session that is not there is looked for again, by the looks that there were. */
static const unsigned again_after_ms[] = {75, 225};
#define TRIES (1 + sizeof again_after_ms / sizeof *again_after_ms)

struct session_store {
    struct loop *loop;
    struct redis_link *link;
    char *prefix;
    struct metrics *metrics;
    struct loop_timer *timer; /* while there are takes */
    struct list waiting;      /* struct job */
    struct list sent;
    struct list resting; /* takes that found nothing, until they look again */
    unsigned sent_count;
    unsigned take_count; /* takes in all three lists */
    size_t waiting_bytes;
    size_t sent_bytes;
    bool is_pumping;
    bool is_closed;
    uint64_t logged_ms; /* when it was said that sessions cannot be stored; 0: never */
};

struct job {
    struct message message; /* on its way here */
    struct list link;
    struct session_store *store;
    uint8_t id[SESSION_ID_BYTES];
    bool is_take;
    bool is_answered; /* a take: only its reply is still awaited */
    struct buf text;  /* of a save */
    uint64_t grace_ms;
    struct hub *hub; /* of a take */
    uint64_t token;
    uint64_t asked_ms;
    uint64_t again_ms;
    unsigned tries;
};

/* clang-format off */
/* ARGV: the longest that can be ours. Returns it and deletes it; false: there is none; a number:
 * what is there is not ours, and stays. */
static const char take_script[] =
    "local n = redis.pcall('STRLEN', KEYS[1])\n"
    "if type(n) ~= 'number' or n > tonumber(ARGV[1]) then return 0 end\n"
    "if n == 0 then return false end\n"
    "local text = redis.call('GET', KEYS[1])\n"
    "redis.call('DEL', KEYS[1])\n"
    "return text\n";
/* clang-format on */

/* --- the end of a job ------------------------------------------------------------------------- */

static void job_free(struct job *j)
{
    list_remove(&j->link);
    j->store->take_count -= j->is_take;
    buf_fini(&j->text);
    free(j);
}

static void answer(struct job *j, enum session_take result, struct slice text)
{
    if (!j->is_answered && !j->store->is_closed)
        resume_post_answer(j->hub, j->token, j->id, result, text);
    j->is_answered = true;
}

static void count_lost(struct session_store *s, const char *why)
{
    uint64_t now_ms = loop_now_ms(s->loop);
    metrics_add(s->metrics, METRIC_SESSIONS_NOT_STORED, 1);
    if (s->logged_ms != 0 && now_ms - s->logged_ms < LOG_EVERY_MS)
        return;
    s->logged_ms = now_ms;
    log_warn("session_not_stored", LOG_STR("reason", why));
}

static void end_save(struct job *j, const struct redis_reply_view *reply)
{
    struct session_store *s = j->store;
    if (reply->kind == REDIS_REPLIED_TEXT)
        metrics_add(s->metrics, METRIC_SESSIONS_STORED, 1);
    else
        count_lost(s, reply->kind == REDIS_REPLIED_LOST ? "redis_away" : "redis_refuses");
    job_free(j);
}

static void look_again(struct job *j)
{
    struct session_store *s = j->store;
    j->again_ms = loop_now_ms(s->loop) + again_after_ms[j->tries - 1];
    list_append(&s->resting, &j->link);
}

static void end_take(struct job *j, const struct redis_reply_view *reply)
{
    static const enum session_take results[] = {
        [REDIS_REPLIED_TEXT] = SESSION_FOUND,     [REDIS_REPLIED_INT] = SESSION_UNUSABLE,
        [REDIS_REPLIED_NIL] = SESSION_UNKNOWN,    [REDIS_REPLIED_ERROR] = SESSION_UNREAD,
        [REDIS_REPLIED_ARRAY] = SESSION_UNUSABLE, [REDIS_REPLIED_LOST] = SESSION_UNREAD,
    };
    if (reply->kind == REDIS_REPLIED_NIL && !j->is_answered && ++j->tries < TRIES) {
        look_again(j);
        return;
    }
    /* Taken for nobody, because Redis was slow: the worker puts it back. */
    if (results[reply->kind] == SESSION_FOUND)
        j->is_answered = false;
    answer(j, results[reply->kind], reply->text);
    job_free(j);
}

/* --- the queue -------------------------------------------------------------------------------- */

static void pump(struct session_store *s);

static void on_reply(void *arg, const struct redis_reply_view *reply)
{
    struct job *j = arg;
    struct session_store *s = j->store;
    s->sent_count--;
    s->sent_bytes -= j->text.len;
    list_remove(&j->link);
    if (j->is_take)
        end_take(j, reply);
    else
        end_save(j, reply);
    pump(s);
}

static void send_job(struct job *j)
{
    struct session_store *s = j->store;
    char id[SESSION_ID_TEXT], number[24];
    struct buf key = {0};
    session_id_text(j->id, id);
    buf_printf(&key, "{%ssession:%s}", s->prefix, id);
    list_append(&s->sent, &j->link);
    s->sent_count++;
    s->sent_bytes += j->text.len;
    snprintf(number, sizeof number, "%llu",
             (unsigned long long)(j->is_take ? SESSION_STATE_BYTES_MAX : j->grace_ms));
    const struct slice take[] = {slice_str("EVAL"), slice_str(take_script), slice_str("1"),
                                 buf_slice(&key), slice_str(number)};
    const struct slice save[] = {slice_str("SET"), buf_slice(&key), buf_slice(&j->text),
                                 slice_str("PX"), slice_str(number)};
    redis_link_command(s->link, j->is_take ? take : save, 5, on_reply, j); /* may end it at once */
    buf_fini(&key);
}

static void pump(struct session_store *s)
{
    if (s->is_pumping)
        return;
    s->is_pumping = true;
    while (!list_is_empty(&s->waiting) && s->sent_count < SENT_MAX &&
           s->sent_bytes < SENT_BYTES_MAX) {
        struct job *j = list_entry(list_shift(&s->waiting), struct job, link);
        s->waiting_bytes -= j->text.len;
        send_job(j);
    }
    s->is_pumping = false;
}

/* --- time ------------------------------------------------------------------------------------- */

static void give_up_late(struct session_store *s, struct list *jobs, bool is_sent)
{
    uint64_t now_ms = loop_now_ms(s->loop);
    struct list *next;
    for (struct list *at = jobs->next; at != jobs; at = next) {
        struct job *j = list_entry(at, struct job, link);
        next = at->next;
        if (!j->is_take || now_ms - j->asked_ms < ANSWER_MS)
            continue;
        answer(j, SESSION_UNREAD, (struct slice){0});
        if (!is_sent)
            job_free(j);
    }
}

static void wake_rested(struct session_store *s)
{
    struct list *next;
    for (struct list *at = s->resting.next; at != &s->resting; at = next) {
        struct job *j = list_entry(at, struct job, link);
        next = at->next;
        if (loop_now_ms(s->loop) < j->again_ms)
            continue;
        list_remove(&j->link);
        list_append(&s->waiting, &j->link);
    }
}

static void on_tick(void *arg)
{
    struct session_store *s = arg;
    give_up_late(s, &s->waiting, false);
    give_up_late(s, &s->sent, true);
    give_up_late(s, &s->resting, false);
    wake_rested(s);
    pump(s);
    if (s->take_count == 0)
        loop_timer_cancel(s->timer);
}

/* --- what workers post ------------------------------------------------------------------------ */

static void run_job(struct message *m)
{
    struct job *j = (struct job *)m;
    struct session_store *s = j->store;
    list_init(&j->link);
    j->asked_ms = loop_now_ms(s->loop);
    if (j->is_take && s->take_count++ == 0)
        loop_timer_repeat(s->timer, TICK_MS);
    if (s->is_closed || s->waiting_bytes + j->text.len > WAITING_BYTES_MAX) {
        if (!s->is_closed)
            count_lost(s, "too_many");
        job_free(j); /* a take has no text: it always has room */
        return;
    }
    s->waiting_bytes += j->text.len;
    list_append(&s->waiting, &j->link);
    pump(s);
}

static struct job *job_new(struct session_store *s, const uint8_t id[SESSION_ID_BYTES])
{
    struct job *j = mem_zalloc(sizeof *j);
    j->message.run = run_job;
    j->store = s;
    memcpy(j->id, id, SESSION_ID_BYTES);
    return j;
}

void session_store_post_save(struct session_store *s, const uint8_t id[SESSION_ID_BYTES],
                             struct buf *text, uint64_t grace_ms)
{
    struct job *j = job_new(s, id);
    j->text = *text;
    *text = (struct buf){0};
    j->grace_ms = grace_ms;
    loop_post(s->loop, &j->message);
}

void session_store_post_take(struct session_store *s, const uint8_t id[SESSION_ID_BYTES],
                             struct hub *hub, uint64_t token)
{
    struct job *j = job_new(s, id);
    j->is_take = true;
    j->hub = hub;
    j->token = token;
    loop_post(s->loop, &j->message);
}

/* --- life ------------------------------------------------------------------------------------- */

bool session_store_is_idle(const struct session_store *s)
{
    return list_is_empty(&s->waiting) && s->sent_count == 0;
}

void session_store_close(struct session_store *s)
{
    s->is_closed = true;
}

void session_store_set_link(struct session_store *s, struct redis_link *link)
{
    s->link = link;
}

struct session_store *session_store_new(struct loop *loop, const char *prefix,
                                        struct metrics *metrics)
{
    struct session_store *s = mem_zalloc(sizeof *s);
    s->loop = loop;
    s->prefix = mem_strdup(prefix);
    s->metrics = metrics;
    s->timer = loop_timer_new(loop, on_tick, s);
    list_init(&s->waiting);
    list_init(&s->sent);
    list_init(&s->resting);
    return s;
}

void session_store_free(struct session_store *s)
{
    loop_timer_free(s->timer);
    list_splice(&s->sent, &s->waiting);
    list_splice(&s->sent, &s->resting);
    while (!list_is_empty(&s->sent))
        job_free(list_entry(s->sent.next, struct job, link));
    free(s->prefix);
    free(s);
}
