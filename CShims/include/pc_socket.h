/* What sockets need of _GNU_SOURCE. */
#ifndef POSTCOPY_PC_SOCKET_H
#define POSTCOPY_PC_SOCKET_H

#include <stdint.h>

/* Takes the next connection of `listener`, close-on-exec from the start: a VMM may fork meanwhile.
 * Returns the connection's descriptor, or -errno. */
int pc_accept(int listener);

/* The process at the other end of a unix socket, as it was when it connected. Returns its id, 0 when it
 * has none in this process's namespace, or -errno. */
int pc_socket_peer(int socket);

/* What one message may carry (SCM_MAX_FD of the kernel). */
enum { PC_DESCRIPTORS_MAX = 253 };

/* Sends bytes, at least one, and `count` descriptors with the first of them (SCM_RIGHTS of unix(7)).
 * Returns the bytes sent, which may be fewer than `length`, or -errno. */
int64_t pc_send_descriptors(
    int socket, const void *bytes, uint64_t length, const int *descriptors, uint64_t count);

/* Receives up to `capacity` bytes, and into `descriptors` (room for PC_DESCRIPTORS_MAX) those that came
 * with them, close-on-exec, and their number into `*count`.
 * Returns the bytes received, 0 at the peer's end, or -errno: EMSGSIZE when the kernel left out a part of
 * what came with them, as where this process may have no more descriptors; then all of it is closed. */
int64_t pc_receive_descriptors(
    int socket, void *bytes, uint64_t capacity, int wait, int *descriptors, uint64_t *count);

/* Returns the id of the process at the other end of a unix socket when it connected (SO_PEERCRED), 0 where
 * this process cannot see it, or -errno. */
int pc_peer_process(int socket);

#endif
