# cython: language_level=3
"""Memory for the frames of greenlets, kept from those that have ended for those that begin.

Since Python 3.11 each greenlet has a data stack of its own. The interpreter maps a chunk of it when the greenlet makes
its first call and unmaps it with the last one, which together take longer than all the rest of a small request. What
runs in the greenlets is not known here.
"""

cdef extern from *:
    """
    #include <stdatomic.h>

    #define CHUNK_BYTES (16 * 1024) /* DATA_STACK_CHUNK_SIZE of pystate.c; the arenas of objects are larger */
    #define MOST_CHUNKS 256

    static PyObjectArenaAllocator system_allocator;
    static void *chunks[MOST_CHUNKS];
    static int chunk_count = 0;
    /* Threads that end may return their chunk without the global lock. Nobody waits for this one: it may be held
       in a process that has been forked, by a thread that is not there. */
    static atomic_flag chunks_in_use = ATOMIC_FLAG_INIT;

    static void *take_chunk(void *unused, size_t size)
    {
        void *chunk = NULL;
        (void)unused;
        if (size == CHUNK_BYTES && !atomic_flag_test_and_set(&chunks_in_use)) {
            if (chunk_count)
                chunk = chunks[--chunk_count];
            atomic_flag_clear(&chunks_in_use);
        }
        return chunk != NULL ? chunk : system_allocator.alloc(system_allocator.ctx, size);
    }

    static void keep_chunk(void *unused, void *chunk, size_t size)
    {
        (void)unused;
        if (size == CHUNK_BYTES && !atomic_flag_test_and_set(&chunks_in_use)) {
            int kept = chunk_count < MOST_CHUNKS;
            if (kept)
                chunks[chunk_count++] = chunk;
            atomic_flag_clear(&chunks_in_use);
            if (kept)
                return;
        }
        system_allocator.free(system_allocator.ctx, chunk, size);
    }

    static void keep_chunks(void)
    {
        PyObjectArenaAllocator allocator = {NULL, take_chunk, keep_chunk};
        if (system_allocator.alloc == NULL) {
            PyObject_GetArenaAllocator(&system_allocator);
            PyObject_SetArenaAllocator(&allocator);
        }
    }
    """
    void keep_chunks()


def keep_freed_frames():
    """Keep up to 4 MiB of what ended greenlets free, for the next ones."""
    keep_chunks()
