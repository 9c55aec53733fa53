#include "pc_socket.h"

#include <errno.h>
#include <stddef.h>
#include <sys/socket.h>

int pc_accept(int listener)
{
    int connection = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    return connection < 0 ? -errno : connection;
}
