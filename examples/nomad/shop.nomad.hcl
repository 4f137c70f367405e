# The image of examples/docker in three allocations: nomad job run examples/nomad/shop.nomad.hcl

job "shop" {
  datacenters = ["*"]

  # Each on a client of its own.
  constraint {
    distinct_hosts = true
  }

  # A new version in one allocation first, which is looked at for a while; back to the old one if it is not healthy.
  update {
    canary           = 1
    max_parallel     = 1
    health_check     = "checks"
    min_healthy_time = "10s"
    healthy_deadline = "2m"
    auto_promote     = true
    auto_revert      = true
  }

  group "web" {
    count = 3

    network {
      port "http" { to = 8000 }
      port "admin" { to = 9100 }
    }

    service {
      name = "shop"
      port = "http"

      # 503 from the first moment of a stop on, while the server still serves.
      check {
        type     = "http"
        port     = "admin"
        path     = "/readyz"
        interval = "2s"
        timeout  = "3s"
      }
    }

    task "server" {
      driver = "docker"

      config {
        image = "registry.example.org/shop:1"
        ports = ["http", "admin"]
      }

      env {
        WSGICLUSTER_WORKERS    = "2"
        WSGICLUSTER_THREADS    = "4"
        WSGICLUSTER_MAX_MEMORY = "80%"
        WSGICLUSTER_ADMIN      = "0.0.0.0:9100"

        # Longer than it takes until everyone who looks the service up has heard of the check.
        WSGICLUSTER_DRAIN_DELAY = "5"
        WSGICLUSTER_NODE_NAME   = "${NOMAD_ALLOC_ID}"
      }

      # drain_delay, then graceful_timeout (30 s), and some to spare.
      kill_signal  = "SIGTERM"
      kill_timeout = "40s"

      resources {
        cpu    = 1000
        memory = 512
      }
    }
  }
}
