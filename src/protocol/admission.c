/*
 * admission.c - one atomic number for the rate, one for the queue of those who were refused, and one
 * for the places.
 */
#include "protocol/admission.h"

#define SECOND_NS     1000000000u
#define BURST_PART    10 /* of a second's worth that may come at once */
#define RETRY_S_LIMIT 60

void admission_set(struct admission *a, enum admission_state state)
{
    atomic_store(&a->state, (int)state);
}

enum admission_state admission_get(const struct admission *a)
{
    return (enum admission_state)atomic_load(&a->state);
}

static uint64_t later_of(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

/* Whole seconds, rounded up, until it is the turn of one more that is refused. */
static unsigned queue_up(struct admission *a, uint64_t period_ns, uint64_t now_ns)
{
    uint64_t known = atomic_load(&a->queue_ns), turn;
    uint64_t limit_ns = now_ns + (uint64_t)RETRY_S_LIMIT * SECOND_NS;
    do {
        turn = later_of(later_of(known, atomic_load(&a->due_ns)), now_ns) + period_ns;
        turn = turn < limit_ns ? turn : limit_ns;
    } while (!atomic_compare_exchange_weak(&a->queue_ns, &known, turn));
    return (unsigned)((turn - now_ns + SECOND_NS - 1) / SECOND_NS);
}

enum admission_verdict admission_ask(struct admission *a, uint64_t per_second, uint64_t now_ns,
                                     unsigned *retry_s)
{
    if (admission_get(a) == ADMISSION_SHUT)
        return REFUSED_DRAINING;
    if (per_second == 0)
        return ADMITTED;
    /* A burst at the end of one second and the rate of the next must not add up to more. */
    uint64_t burst = per_second / BURST_PART;
    uint64_t period_ns = (SECOND_NS + per_second - burst - 1) / (per_second - burst); /* up */
    uint64_t ahead_ns = burst > 1 ? (burst - 1) * period_ns : 0;
    uint64_t due = atomic_load(&a->due_ns), next;
    do {
        if (due > now_ns + ahead_ns) {
            *retry_s = queue_up(a, period_ns, now_ns);
            return REFUSED_RATE;
        }
        next = later_of(due, now_ns) + period_ns;
    } while (!atomic_compare_exchange_weak(&a->due_ns, &due, next));
    return ADMITTED;
}

bool admission_take_place(struct admission *a, uint64_t places)
{
    uint64_t taken = atomic_load(&a->taken);
    do {
        if (taken >= places)
            return false;
    } while (!atomic_compare_exchange_weak(&a->taken, &taken, taken + 1));
    return true;
}

void admission_free_place(struct admission *a)
{
    atomic_fetch_sub(&a->taken, 1);
}

bool admission_is_full(const struct admission *a, uint64_t places)
{
    return atomic_load(&a->taken) >= places;
}
