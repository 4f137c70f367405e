"""Names of Gunicorn that wsgicluster does not support.

They are distinguished from misspelt names, so that a deployment that moves from Gunicorn gets an
error that names what is missing.
"""

# fmt: off
HOOKS = frozenset(
    {
        "on_starting", "on_reload", "when_ready", "pre_fork", "post_fork", "post_worker_init", "worker_int",
        "worker_abort", "pre_exec", "pre_request", "post_request", "child_exit", "worker_exit", "nworkers_changed",
        "on_exit", "on_dirty_starting", "dirty_post_fork", "dirty_worker_init", "dirty_worker_exit",
    }
)

SETTINGS = frozenset(
    {
        "reload_engine", "spew", "reuse_port",
        "default_proc_name", "paste",
        "ssl_version", "http_protocols", "http2_cleartext", "http2_max_concurrent_streams", "http2_initial_window_size",
        "http2_max_frame_size", "http2_max_header_list_size", "raw_paste_global_conf", "permit_obsolete_folding",
        "strip_header_spaces", "permit_unconventional_http_method", "permit_unconventional_http_version",
        "casefold_http_method", "asgi_loop", "asgi_lifespan", "asgi_disconnect_grace_period", "http_parser",
        "root_path", "dirty_apps", "dirty_workers", "dirty_timeout", "dirty_threads", "dirty_graceful_timeout",
    }
)
# fmt: on

_FLAGS_THAT_DIFFER = {
    "paste": ("--paste", "--paster"),
    "raw_paste_global_conf": ("--paste-global",),
    "dirty_apps": ("--dirty-app",),
    "default_proc_name": (),
}

FLAGS = frozenset(flag for name in SETTINGS for flag in _FLAGS_THAT_DIFFER.get(name, ("--" + name.replace("_", "-"),)))
