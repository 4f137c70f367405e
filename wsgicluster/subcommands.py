"""The words that may come first on the command line in place of an application, and what each is for.

`wsgicluster.cli` runs them. An application in a module of such a name is given with its attribute, as
``init:application``.
"""

SUBCOMMANDS = {
    "init": "write a commented configuration file",
    "doctor": "the same as --doctor",
    "migrate": "say what a configuration of Gunicorn means here",
    "ctl": "list, watch, reload, stop servers: as wsgiclusterctl",
    "completion": "print completion for bash, zsh or fish",
}
