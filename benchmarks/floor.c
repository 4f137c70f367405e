/* What the kernel alone costs: an epoll loop that reads a request and answers fixed bytes, without looking at it.
   usage: floor PORT */
#define _GNU_SOURCE
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define MAX_EVENTS 128

static const char response[] = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 13\r\n"
                               "Server: floor\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\n\r\nHello, World!";

static int listen_on(int port)
{
    int on = 1, descriptor = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    struct sockaddr_in name = {.sin_family = AF_INET, .sin_port = htons(port)};

    name.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    setsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (bind(descriptor, (struct sockaddr *)&name, sizeof name) < 0 || listen(descriptor, 2048) < 0) {
        perror("floor");
        exit(1);
    }
    return descriptor;
}

static void watch(int poll, int descriptor)
{
    struct epoll_event event = {.events = EPOLLIN};

    event.data.fd = descriptor;
    epoll_ctl(poll, EPOLL_CTL_ADD, descriptor, &event);
}

int main(int argc, char **argv)
{
    static char request[1 << 16];
    struct epoll_event ready[MAX_EVENTS];
    int listener = listen_on(argc > 1 ? atoi(argv[1]) : 8000);
    int poll = epoll_create1(EPOLL_CLOEXEC);

    watch(poll, listener);
    for (;;) {
        int found = epoll_wait(poll, ready, MAX_EVENTS, -1);

        for (int index = 0; index < found; index++) {
            int client = ready[index].data.fd;

            if (client == listener) {
                if ((client = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0)
                    watch(poll, client);
            } else if (recv(client, request, sizeof request, 0) <= 0) {
                close(client);
            } else {
                send(client, response, sizeof response - 1, MSG_NOSIGNAL);
            }
        }
    }
}
