/* What sockets need of _GNU_SOURCE. */
#ifndef POSTCOPY_PC_SOCKET_H
#define POSTCOPY_PC_SOCKET_H

/* Takes the next connection of `listener`, close-on-exec from the start: a VMM may fork meanwhile.
 * Returns the connection's descriptor, or -errno. */
int pc_accept(int listener);

#endif
