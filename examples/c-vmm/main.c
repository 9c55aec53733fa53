/* Moves a machine from one process to another, and back out of nothing: the destination knows only
 * the machine's shape.
 *
 *     cc -o c-vmm main.c machine.c $(pkg-config --cflags --libs postcopy) -pthread
 *     ./c-vmm [MIB]
 *
 * The parent is the source and the child the destination. The machine runs all the time; memory is
 * sent while it does, then it moves, and the rest of its memory follows it. With C_VMM_DAMAGE in the
 * environment a bit of it is changed before it is checked, so that one sees that check fail. */
#define _GNU_SOURCE
#include "machine.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define SECOND UINT64_C(1000000000)
/* Longer than any of this takes on a slow host. */
#define PATIENCE (120 * SECOND)
#define ADDRESS_BYTES 128

static bool went_well(postcopy_code code, const char *what, const postcopy_error *error)
{
    if (code != POSTCOPY_OK)
        fprintf(stderr, "c-vmm: %s: %s: %s\n", what, postcopy_code_name(code),
                postcopy_error_message(error));
    return code == POSTCOPY_OK;
}

/* The destination: takes the machine over, lets it go round its memory once more, and checks it. */
static bool receive(machine *machine, int tell, postcopy_error *error)
{
    postcopy_guest guest = machine_as_guest(machine);
    postcopy_destination *destination;
    postcopy_code code = postcopy_destination_create(&guest, NULL, &destination, error);
    if (!went_well(code, "create", error))
        return false;
    code = postcopy_destination_listen(destination, "tcp:127.0.0.1:0", error);
    if (!went_well(code, "listen", error))
        return false;
    const char *address = postcopy_destination_address(destination);
    if (write(tell, address, strlen(address) + 1) < 0)
        return false;
    bool good = went_well(postcopy_destination_run(destination, error), "destination", error);

    postcopy_destination_report report = { .size = sizeof report };
    good = went_well(postcopy_destination_get_report(destination, &report, error), "report", error)
           && good;
    if (good)
        machine_await_steps(machine, machine->steps + machine_page_count(machine));
    if (report.flags & POSTCOPY_GUEST_RUNS_HERE)
        machine_stop(machine);
    if (good && getenv("C_VMM_DAMAGE") != NULL)
        machine_damage(machine);
    if (good) {
        printf("destination: %s, %" PRIu64 " pages in order, %" PRIu64 " by request; "
               "the vCPU waited %" PRIu64 " us\n", postcopy_status_name(report.status), report.pages_background,
               report.pages_urgent, report.vcpu_count ? report.vcpu_blocktime[0] / 1000 : 0);
        /* What it met on its way round, and what it has left. */
        uint64_t wrong = machine->wrong + machine_wrong_pages(machine);
        printf("destination: %" PRIu64 " pages written in all, %" PRIu64 " of %" PRIu64
               " are wrong\n", machine->steps, wrong, machine_page_count(machine));
        good = wrong == 0;
    }
    return went_well(postcopy_destination_free(destination, error), "free", error) && good;
}

/* Told where the source stands: once all memory was sent, the machine may move. */
static void watch(void *context, const postcopy_progress *progress)
{
    postcopy_source *source = atomic_load((_Atomic(postcopy_source *) *)context);
    if (progress->rounds >= 1 && progress->status == POSTCOPY_STATUS_ACTIVE)
        postcopy_source_start_postcopy(source, NULL);
}

static postcopy_source *make_source(
    machine *machine, _Atomic(postcopy_source *) *place, postcopy_error *error)
{
    postcopy_guest guest = machine_as_guest(machine);
    postcopy_options options = {
        .size = sizeof options,
        .flags = POSTCOPY_PRECOPY | POSTCOPY_NO_AUTOMATIC_SWITCH,
        .downtime_limit = POSTCOPY_NO_DOWNTIME_LIMIT,
        .on_progress = watch,
        .progress_context = place,
        .progress_interval = SECOND / 1000,
    };
    postcopy_source *source;
    postcopy_code code = postcopy_source_create(&guest, &options, &source, error);
    if (code == POSTCOPY_REFUSED) {
        /* This kernel cannot tell what the machine writes: it moves first, and its memory
         * follows. */
        printf("source: %s\n", postcopy_error_message(error));
        code = postcopy_source_create(&guest, NULL, &source, error);
        if (code == POSTCOPY_OK)
            postcopy_source_start_postcopy(source, error);
    }
    if (!went_well(code, "create", error))
        return NULL;
    atomic_store(place, source);
    return source;
}

/* The source: runs the machine and hands it over. */
static bool send_machine(machine *machine, const char *address, postcopy_error *error)
{
    _Atomic(postcopy_source *) place = NULL;
    postcopy_source *source = make_source(machine, &place, error);
    if (source == NULL)
        return false;
    machine_go(machine);
    machine_await_steps(machine, machine_page_count(machine));
    bool good = went_well(postcopy_source_start(source, address, error), "start", error)
                && went_well(postcopy_source_wait(source, PATIENCE, error), "source", error);

    postcopy_source_report report = { .size = sizeof report };
    good = went_well(postcopy_source_get_report(source, &report, error), "report", error) && good;
    if (report.flags & POSTCOPY_GUEST_RUNS_HERE)
        machine_stop(machine);
    if (good)
        printf("source: %s after %" PRIu64 " pages written; downtime %" PRIu64 " us, %" PRIu64
               " rounds, %" PRIu64 " pages owed, %" PRIu64 " requests\n",
               postcopy_status_name(report.status), machine->steps, report.downtime / 1000,
               report.rounds, report.pages_owed, report.requests);
    return went_well(postcopy_source_free(source, error), "free", error) && good;
}

/* One side's whole life: the source's where there is an address to go to. */
static int side(uint64_t block_bytes, int tell, const char *address)
{
    machine machine;
    postcopy_error *error = postcopy_error_create();
    bool good = machine_make(&machine, block_bytes, error);
    if (good) {
        good = address == NULL ? receive(&machine, tell, error)
                               : send_machine(&machine, address, error);
        good = machine_end(&machine, error) && good;
    }
    postcopy_error_free(error);
    return good ? EXIT_SUCCESS : EXIT_FAILURE;
}

int main(int count, char **arguments)
{
    uint64_t mebibytes = count > 1 ? strtoull(arguments[1], NULL, 10) : 64;
    if (count > 2 || mebibytes < 2 || mebibytes > 1 << 20 || mebibytes % 2 != 0) {
        fprintf(stderr, "usage: c-vmm [MIB]: memory, an even number of MiB; 64 unless given\n");
        return 2;
    }
    /* Before anything of the library is made: a child has none of its parent's threads. */
    int ends[2];
    if (pipe(ends) != 0)
        return EXIT_FAILURE;
    pid_t child = fork();
    if (child < 0)
        return EXIT_FAILURE;
    if (child == 0) {
        close(ends[0]);
        return side(mebibytes << 19, ends[1], NULL);
    }
    close(ends[1]);
    char address[ADDRESS_BYTES] = "";
    int status = EXIT_FAILURE, ended = 0;
    if (read(ends[0], address, sizeof address - 1) > 0)
        status = side(mebibytes << 19, -1, address);
    if (waitpid(child, &ended, 0) != child || !WIFEXITED(ended) || WEXITSTATUS(ended) != 0)
        status = EXIT_FAILURE;
    return status;
}
