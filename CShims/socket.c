#include "pc_socket.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

int pc_accept(int listener)
{
    int connection = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    return connection < 0 ? -errno : connection;
}

int pc_socket_peer(int socket)
{
    struct ucred peer = {0};
    socklen_t length = sizeof peer;
    return getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &length) == 0 ? peer.pid : -errno;
}

/* What comes or goes beside bytes. */
union control {
    struct cmsghdr header;
    char room[CMSG_SPACE(sizeof(int) * PC_DESCRIPTORS_MAX)];
};

int64_t pc_send_descriptors(
    int socket, const void *bytes, uint64_t length, const int *descriptors, uint64_t count)
{
    union control control = {0};
    struct iovec part = {.iov_base = (void *)(uintptr_t)bytes, .iov_len = length};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    if (count > PC_DESCRIPTORS_MAX)
        return -EINVAL;
    if (count > 0) {
        message.msg_control = &control;
        message.msg_controllen = CMSG_SPACE(count * sizeof(int));
        control.header.cmsg_level = SOL_SOCKET;
        control.header.cmsg_type = SCM_RIGHTS;
        control.header.cmsg_len = CMSG_LEN(count * sizeof(int));
        memcpy(CMSG_DATA(&control.header), descriptors, count * sizeof(int));
    }
    ssize_t sent = sendmsg(socket, &message, MSG_NOSIGNAL);
    while (sent < 0 && errno == EINTR)
        sent = sendmsg(socket, &message, MSG_NOSIGNAL);
    return sent < 0 ? -errno : sent;
}

static uint64_t take_descriptors(struct msghdr *message, int *descriptors)
{
    uint64_t count = 0;
    for (struct cmsghdr *header = CMSG_FIRSTHDR(message); header != NULL;
         header = CMSG_NXTHDR(message, header)) {
        if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS)
            continue;
        uint64_t more = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        memcpy(descriptors + count, CMSG_DATA(header), more * sizeof(int));
        count += more;
    }
    return count;
}

int64_t pc_receive_descriptors(
    int socket, void *bytes, uint64_t capacity, int wait, int *descriptors, uint64_t *count)
{
    union control control;
    struct iovec part = {.iov_base = bytes, .iov_len = capacity};
    struct msghdr message = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    int flags = MSG_CMSG_CLOEXEC | (wait ? 0 : MSG_DONTWAIT);
    ssize_t received = recvmsg(socket, &message, flags);
    while (received < 0 && errno == EINTR)
        received = recvmsg(socket, &message, flags);
    *count = 0;
    if (received < 0)
        return -errno;
    *count = take_descriptors(&message, descriptors);
    if ((message.msg_flags & MSG_CTRUNC) == 0)
        return received;
    for (; *count > 0; --*count)
        close(descriptors[*count - 1]);
    return -EMSGSIZE;
}

int pc_peer_process(int socket)
{
    struct ucred peer = {0};
    socklen_t length = sizeof peer;
    return getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &length) == 0 ? peer.pid : -errno;
}
