#define _GNU_SOURCE
#include "machine.h"

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define WORDS (PAGE_BYTES / sizeof(uint64_t))
/* How often the vCPU looks whether it is to stop, in pages. */
#define LOOK 64

uint64_t machine_page_count(const machine *machine)
{
    return machine->pages[0] + machine->pages[1];
}

static uint64_t *page_words(const machine *machine, uint64_t page)
{
    if (page < machine->pages[0])
        return machine->words[0] + page * WORDS;
    return machine->words[1] + (page - machine->pages[0]) * WORDS;
}

/* What a word holds of a page that was written `count` times. */
static uint64_t word_of(uint64_t page, uint64_t count, uint64_t index)
{
    return count == 0 ? 0 : count << 40 ^ page << 9 ^ index;
}

/* Writes a page anew, and looks first whether it is as it was left. */
static void count_once(machine *machine)
{
    uint64_t pages = machine_page_count(machine);
    uint64_t steps = machine->steps, page = steps % pages, round = steps / pages;
    uint64_t *words = page_words(machine, page);
    bool is_wrong = false;
    for (uint64_t index = 0; index < WORDS; index++) {
        is_wrong |= words[index] != word_of(page, round, index);
        words[index] = word_of(page, round + 1, index);
    }
    machine->wrong += is_wrong;
    machine->steps = steps + 1;
}

uint64_t machine_wrong_pages(const machine *machine)
{
    uint64_t pages = machine_page_count(machine), steps = machine->steps, wrong = 0;
    for (uint64_t page = 0; page < pages; page++) {
        uint64_t count = steps / pages + (page < steps % pages);
        const uint64_t *words = page_words(machine, page);
        for (uint64_t index = 0; index < WORDS; index++) {
            if (words[index] == word_of(page, count, index))
                continue;
            wrong++;
            break;
        }
    }
    return wrong;
}

void machine_damage(machine *machine)
{
    page_words(machine, 0)[WORDS - 1] ^= 1;
}

static void *run_vcpu(void *argument)
{
    machine *machine = argument;
    pthread_mutex_lock(&machine->lock);
    machine->thread_id = (int32_t)syscall(SYS_gettid);
    while (!machine->ends) {
        machine->runs = machine->may_run;
        pthread_cond_broadcast(&machine->changed);
        if (!machine->runs) {
            pthread_cond_wait(&machine->changed, &machine->lock);
            continue;
        }
        pthread_mutex_unlock(&machine->lock);
        /* Without the lock: a page may be missing, and whoever is asked for it must not be kept
         * out. */
        for (int page = 0; page < LOOK; page++)
            count_once(machine);
        pthread_mutex_lock(&machine->lock);
    }
    pthread_mutex_unlock(&machine->lock);
    return NULL;
}

void machine_go(machine *machine)
{
    pthread_mutex_lock(&machine->lock);
    machine->may_run = true;
    pthread_cond_broadcast(&machine->changed);
    pthread_mutex_unlock(&machine->lock);
}

void machine_stop(machine *machine)
{
    pthread_mutex_lock(&machine->lock);
    machine->may_run = false;
    pthread_cond_broadcast(&machine->changed);
    while (machine->runs)
        pthread_cond_wait(&machine->changed, &machine->lock);
    pthread_mutex_unlock(&machine->lock);
}

void machine_await_steps(machine *machine, uint64_t steps)
{
    pthread_mutex_lock(&machine->lock);
    while (machine->steps < steps)
        pthread_cond_wait(&machine->changed, &machine->lock);
    pthread_mutex_unlock(&machine->lock);
}

static int32_t pause_vcpu(void *context, char *why)
{
    (void)why;
    machine_stop(context);
    return 0;
}

static int32_t resume_vcpu(void *context, char *why)
{
    (void)why;
    machine_go(context);
    return 0;
}

static int32_t save(void *context, postcopy_sink *sink, char *why)
{
    const machine *machine = context;
    uint64_t steps = machine->steps;
    (void)why;
    return postcopy_sink_write(sink, &steps, sizeof steps);
}

static int32_t load(void *context, const void *bytes, size_t length, char *why)
{
    machine *machine = context;
    uint64_t steps;
    if (length != sizeof steps) {
        snprintf(why, POSTCOPY_WHY_BYTES, "the counter is %zu bytes long, not %zu", sizeof steps,
                 length);
        return -1;
    }
    memcpy(&steps, bytes, length);
    machine->steps = steps;
    return 0;
}

static size_t vcpu_threads(void *context, int32_t *threads, size_t capacity)
{
    const machine *machine = context;
    if (capacity > 0)
        threads[0] = machine->thread_id;
    return 1;
}

postcopy_guest machine_as_guest(machine *machine)
{
    return (postcopy_guest){
        .size = sizeof(postcopy_guest),
        .context = machine,
        .machine_type = "c-vmm-1",
        .ram = machine->ram,
        .ram_count = BLOCKS,
        .fault_origin = POSTCOPY_FAULTS_USER_ONLY,
        .pause = pause_vcpu,
        .resume = resume_vcpu,
        .save = save,
        .load = load,
        .vcpu_threads = vcpu_threads,
    };
}

/* One block that the library maps, and one whose mapping is given. */
static bool make_memory(machine *machine, uint64_t block_bytes, postcopy_error *error)
{
    machine->mapping = mmap(NULL, block_bytes, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (machine->mapping == MAP_FAILED) {
        perror("c-vmm: mmap");
        return false;
    }
    postcopy_ram_options options[BLOCKS] = {
        { .size = sizeof options[0], .name = "low.ram", .length = block_bytes },
        { .size = sizeof options[1], .name = "high.ram", .length = block_bytes,
          .mapping = machine->mapping },
    };
    for (size_t block = 0; block < BLOCKS; block++) {
        if (postcopy_ram_create(&options[block], &machine->ram[block], error) != POSTCOPY_OK) {
            fprintf(stderr, "c-vmm: %s\n", postcopy_error_message(error));
            return false;
        }
        machine->words[block] = postcopy_ram_address(machine->ram[block]);
        machine->pages[block] = postcopy_ram_length(machine->ram[block]) / PAGE_BYTES;
    }
    return true;
}

bool machine_make(machine *machine, uint64_t block_bytes, postcopy_error *error)
{
    memset(machine, 0, sizeof *machine);
    if (!make_memory(machine, block_bytes, error))
        return false;
    pthread_mutex_init(&machine->lock, NULL);
    pthread_cond_init(&machine->changed, NULL);
    if (pthread_create(&machine->thread, NULL, run_vcpu, machine) != 0) {
        fprintf(stderr, "c-vmm: no thread for the vCPU\n");
        return false;
    }
    pthread_mutex_lock(&machine->lock);
    while (machine->thread_id == 0)
        pthread_cond_wait(&machine->changed, &machine->lock);
    pthread_mutex_unlock(&machine->lock);
    return true;
}

bool machine_end(machine *machine, postcopy_error *error)
{
    pthread_mutex_lock(&machine->lock);
    machine->ends = true;
    pthread_cond_broadcast(&machine->changed);
    pthread_mutex_unlock(&machine->lock);
    pthread_join(machine->thread, NULL);
    for (size_t block = 0; block < BLOCKS; block++) {
        if (postcopy_ram_free(machine->ram[block], error) != POSTCOPY_OK) {
            fprintf(stderr, "c-vmm: %s\n", postcopy_error_message(error));
            return false;
        }
    }
    return munmap(machine->mapping, machine->pages[1] * PAGE_BYTES) == 0;
}
