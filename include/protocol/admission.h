/*
 * admission.h - whether a node takes one more client now.
 *
 *      OPEN ──a drain begins──> LEAVING ──grace over──> SHUT ──undrain──> OPEN
 *
 * LEAVING: not ready any more, so that balancers send no more clients, but who still comes is let
 * in. SHUT: upgrades are refused. Apart from that, upgrades are admitted at no more than a rate, so
 * that a fleet does not collapse under the return of everybody at once: in any second at most so
 * many, a tenth of them at once. Who is refused is told when to come again, each a little later
 * than the one before. And no more clients are connected than a number of places.
 *
 * Any thread: workers ask, the main thread opens and shuts. The rate is kept as the generic cell
 * rate algorithm (ATM Forum TM 4.0, 4.4.2): one number, the time when the next one is due.
 */
#ifndef TICKCAST_PROTOCOL_ADMISSION_H
#define TICKCAST_PROTOCOL_ADMISSION_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum admission_state { ADMISSION_OPEN, ADMISSION_LEAVING, ADMISSION_SHUT };

enum admission_verdict { ADMITTED, REFUSED_DRAINING, REFUSED_RATE };

/* Zeroed: open, and empty. */
struct admission {
    atomic_int state;          /* enum admission_state */
    _Atomic uint64_t taken;    /* places */
    _Atomic uint64_t due_ns;   /* when the next one is due at the rate; monotonic */
    _Atomic uint64_t queue_ns; /* when the last one that was refused was told to come */
};

void admission_set(struct admission *a, enum admission_state state);
enum admission_state admission_get(const struct admission *a);

/* Asks for one client. per_second 0: at any rate. Where the rate refuses, *retry_s is in how many
 * seconds to come again, 1 to 60. */
enum admission_verdict admission_ask(struct admission *a, uint64_t per_second, uint64_t now_ns,
                                     unsigned *retry_s);

/* One of so many places for a client; false: all are taken. Each that was taken is freed once. */
bool admission_take_place(struct admission *a, uint64_t places);
void admission_free_place(struct admission *a);
bool admission_is_full(const struct admission *a, uint64_t places);

#endif
