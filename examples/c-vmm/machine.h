/* A machine of one vCPU that counts in its memory: page after page, round after round. It writes
 * whole pages, so that what every byte must hold follows from how many pages it has written. */
#ifndef MACHINE_H
#define MACHINE_H

#include <postcopy.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define PAGE_BYTES 4096u
#define BLOCKS 2u

typedef struct machine {
    postcopy_ram *ram[BLOCKS];
    uint64_t *words[BLOCKS];
    uint64_t pages[BLOCKS];
    /* Of the second block, which the library did not map. */
    void *mapping;

    pthread_t thread;
    pthread_mutex_t lock;
    /* Whenever one of the four below has changed. */
    pthread_cond_t changed;
    bool may_run;
    bool runs;
    bool ends;
    int32_t thread_id;

    /* Pages written so far: all the device state there is. Written by the vCPU while it runs, and
     * by `load` while it does not. */
    _Atomic uint64_t steps;
    /* Pages that were not as they were left when they were written anew. */
    _Atomic uint64_t wrong;
} machine;

/* Memory and a vCPU that stands still. Answers false and tells why where that cannot be had. */
bool machine_make(machine *machine, uint64_t block_bytes, postcopy_error *error);

/* Ends the vCPU and frees the memory, which no migration may use any more. */
bool machine_end(machine *machine, postcopy_error *error);

/* What the library asks a guest for. */
postcopy_guest machine_as_guest(machine *machine);

/* Lets the vCPU run, and stops it; `machine_stop` returns when it stands still. */
void machine_go(machine *machine);
void machine_stop(machine *machine);

/* Waits until the vCPU, which runs, has written that many pages in all. */
void machine_await_steps(machine *machine, uint64_t steps);

/* Compares every byte of every page with what it must hold; answers how many pages are wrong. */
uint64_t machine_wrong_pages(const machine *machine);

/* Changes one bit of what the machine, which stands still, has left in its first page: the check must
 * find that. */
void machine_damage(machine *machine);

uint64_t machine_page_count(const machine *machine);

#endif
