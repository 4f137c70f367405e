# System calls as the compiled code makes them, where Cython has no declarations of its own.

from libc.string cimport memcpy, memset
from libc.time cimport time_t
from posix.signal cimport sigset_t
from posix.uio cimport iovec

cdef extern from "<sys/socket.h>" nogil:
    ctypedef unsigned int socklen_t
    cdef struct sockaddr:
        pass
    cdef struct sockaddr_storage:
        unsigned short ss_family
    cdef struct msghdr:
        iovec *msg_iov
        size_t msg_iovlen
        void *msg_control
        size_t msg_controllen
    cdef struct cmsghdr:
        size_t cmsg_len
        int cmsg_level
        int cmsg_type
    cmsghdr *CMSG_FIRSTHDR(msghdr *message)
    unsigned char *CMSG_DATA(cmsghdr *item)
    size_t CMSG_LEN(size_t size)
    int AF_INET, MSG_DONTWAIT, MSG_NOSIGNAL, MSG_CMSG_CLOEXEC, SCM_RIGHTS, SOCK_NONBLOCK, SOCK_CLOEXEC, SOL_SOCKET
    ssize_t recvmsg(int descriptor, msghdr *message, int flags)
    ssize_t recv(int descriptor, void *buffer, size_t size, int flags)
    ssize_t send(int descriptor, const void *buffer, size_t size, int flags)
    ssize_t sendmsg(int descriptor, const msghdr *message, int flags)
    int getpeername(int descriptor, sockaddr *address, socklen_t *size)
    int accept4(int listener, sockaddr *address, socklen_t *size, int flags)

cdef extern from "<netinet/in.h>" nogil:
    cdef struct sockaddr_in:
        unsigned short sin_port
        unsigned int sin_addr
    unsigned short ntohs(unsigned short number)

cdef extern from "<poll.h>" nogil:
    cdef struct pollfd:
        int fd
        short events
    int poll(pollfd *items, unsigned long count, int timeout)
    short POLLOUT

cdef extern from "<time.h>" nogil:
    cdef struct timespec:
        time_t tv_sec
        long tv_nsec
    int CLOCK_MONOTONIC
    int clock_gettime(int clock, timespec *now)
    int nanosleep(const timespec *duration, timespec *left)

cdef extern from "<pthread.h>" nogil:
    ctypedef struct pthread_t:
        pass
    ctypedef struct pthread_attr_t:
        pass
    ctypedef struct pthread_mutex_t:
        pass
    ctypedef struct pthread_cond_t:
        pass
    ctypedef struct pthread_condattr_t:
        pass
    int PTHREAD_CREATE_DETACHED, SIG_SETMASK
    int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *) nogil, void *argument)
    int pthread_attr_init(pthread_attr_t *attributes)
    int pthread_attr_setstacksize(pthread_attr_t *attributes, size_t size)
    int pthread_attr_setdetachstate(pthread_attr_t *attributes, int state)
    int pthread_mutex_init(pthread_mutex_t *mutex, void *attributes)
    int pthread_mutex_lock(pthread_mutex_t *mutex)
    int pthread_mutex_unlock(pthread_mutex_t *mutex)
    int pthread_condattr_init(pthread_condattr_t *attributes)
    int pthread_condattr_setclock(pthread_condattr_t *attributes, int clock)
    int pthread_cond_init(pthread_cond_t *condition, const pthread_condattr_t *attributes)
    int pthread_cond_signal(pthread_cond_t *condition)
    int pthread_cond_wait(pthread_cond_t *condition, pthread_mutex_t *mutex)
    int pthread_cond_timedwait(pthread_cond_t *condition, pthread_mutex_t *mutex, const timespec *until)
    int pthread_atfork(void (*prepare)() nogil, void (*parent)() nogil, void (*child)() nogil)
    int pthread_sigmask(int how, const sigset_t *wanted, sigset_t *before)


cdef inline ssize_t send_descriptor(int channel, const char *packet, size_t size, int number) noexcept nogil:
    """Send a packet and a descriptor beside it, as ``sendmsg``."""
    cdef char control[32]
    cdef iovec part
    cdef msghdr message
    cdef cmsghdr *item
    part.iov_base = <void *>packet
    part.iov_len = size
    memset(&message, 0, sizeof(message))
    message.msg_iov = &part
    message.msg_iovlen = 1
    message.msg_control = control
    message.msg_controllen = CMSG_LEN(sizeof(int))
    item = CMSG_FIRSTHDR(&message)
    item.cmsg_level = SOL_SOCKET
    item.cmsg_type = SCM_RIGHTS
    item.cmsg_len = CMSG_LEN(sizeof(int))
    memcpy(CMSG_DATA(item), &number, sizeof(int))
    return sendmsg(channel, &message, MSG_DONTWAIT | MSG_NOSIGNAL)


cdef inline ssize_t receive_descriptor(int channel, char *packet, size_t room, int *number) noexcept nogil:
    """Receive a packet, and the descriptor that came with it, or -1, as ``recvmsg``."""
    cdef char control[32]
    cdef iovec part
    cdef msghdr message
    cdef cmsghdr *item
    cdef ssize_t size
    part.iov_base = packet
    part.iov_len = room
    memset(&message, 0, sizeof(message))
    message.msg_iov = &part
    message.msg_iovlen = 1
    message.msg_control = control
    message.msg_controllen = CMSG_LEN(sizeof(int))
    number[0] = -1
    size = recvmsg(channel, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC)
    item = CMSG_FIRSTHDR(&message) if size >= 0 else NULL
    if item is not NULL and item.cmsg_level == SOL_SOCKET and item.cmsg_type == SCM_RIGHTS:
        memcpy(number, CMSG_DATA(item), sizeof(int))
    return size


cdef inline double now() noexcept nogil:
    """The monotonic clock."""
    cdef timespec moment
    clock_gettime(CLOCK_MONOTONIC, &moment)
    return <double>moment.tv_sec + <double>moment.tv_nsec * 1e-9
