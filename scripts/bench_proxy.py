"""`scripts/bench proxy`: the ingress beside HAProxy and nginx, one after the other in turns.

All three pass requests to the demo image's server: ours and HAProxy to the one in an instance, whose network namespace
both enter; nginx can't, and passes to the same binary on the host, which costs a little less. Each crosses the loopback
twice. The proxy has cores of its own as far as there are two; wrk and the servers have the last one. CPU time is the
proxy's whole, from /proc: it holds better on a shared machine than requests a second.
"""

import contextlib
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

from audit import processes_of
from harness import Agent, free_port, wait_for

CONNECTIONS = 64
SECONDS = 3
CPUS = os.cpu_count()
SYSCALL_SECONDS = 1
INSTANCE = "169.254.77.2:8080"  # in its network namespace

HAPROXY = """
global
  nbthread {threads}
  maxconn 4096
defaults
  mode http
  option forwardfor
  http-reuse always
  timeout connect 5s
  timeout client 60s
  timeout server 60s
listen proxy
  bind 127.0.0.1:{port}
  server backend {instance} namespace {namespace}
"""

NGINX = """
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/nginx.log;
worker_processes {threads};
events {{ worker_connections 4096; }}
http {{
  access_log off;
  keepalive_requests 100000000;
  client_body_temp_path {folder};
  proxy_temp_path {folder};
  fastcgi_temp_path {folder};
  uwsgi_temp_path {folder};
  scgi_temp_path {folder};
  upstream backend {{ server 127.0.0.1:{backend}; keepalive 256; keepalive_requests 100000000; }}
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass http://backend;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Host $host;
      proxy_set_header X-Forwarded-For $remote_addr;
    }}
  }}
}}
"""


def children(pid):
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return [int(child) for child in file.read().split()]


def pin(pid, cores):
    subprocess.run(["taskset", "-acp", cores, str(pid)], check=True, capture_output=True)


def cpu_seconds(pids):
    total = 0
    for pid in pids:
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/schedstat") as file:
                total += int(file.read().split()[0])
    return total / 1e9


class Target:
    """A proxy that runs: the processes that count, and where it listens."""

    def __init__(self, name, port, host, pids, address="127.0.0.1"):
        self.name, self.port, self.host, self.pids, self.address = name, port, host, pids, address

    def wrk(self, path, seconds, connections=CONNECTIONS):
        command = ["taskset", "-c", str(CPUS - 1), "wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency",
                   "-H", f"Host: {self.host}", f"http://{self.address}:{self.port}{path}"]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def measure(self, path, connections=CONNECTIONS):
        before = cpu_seconds(self.pids)
        text = self.wrk(path, SECONDS, connections)
        spent = cpu_seconds(self.pids) - before
        if re.search(r"Non-2xx|Socket errors", text):
            raise AssertionError(f"{self.name}: {text}")
        requests = int(re.search(r"(\d+) requests in", text)[1])
        rate = float(re.search(r"Requests/sec:\s+([\d.]+)", text)[1])
        return {"cpu": spent / requests * 1e6, "rate": rate, "p50": latency(text, 50), "p99": latency(text, 99)}

    def syscalls(self, path):
        """System calls a request; counted by perf, which slows it down. None where the kernel does not count them."""
        count = subprocess.Popen(["perf", "stat", "-x,", "-e", "raw_syscalls:sys_enter", "-p", ",".join(map(str, self.pids))],
                                 stderr=subprocess.PIPE, text=True)
        time.sleep(0.3)
        text = self.wrk(path, SYSCALL_SECONDS)
        count.send_signal(signal.SIGINT)
        counted = re.search(r"^(\d+),", count.communicate()[1], re.M)
        return int(counted[1]) / int(re.search(r"(\d+) requests in", text)[1]) if counted else None


def latency(text, percent):
    value, unit = re.search(rf"^\s*{percent}%\s+([\d.]+)(us|ms|s)$", text, re.M).groups()
    return float(value) * {"us": 0.001, "ms": 1, "s": 1000}[unit]


def started_peer(name, command, port):
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for(lambda: subprocess.run(["curl", "-sf", "-o", "/dev/null", f"http://127.0.0.1:{port}/"]).returncode == 0, name)
    return process


@contextlib.contextmanager
def named_network(pid):
    """A name for the process's network namespace, where HAProxy looks for it."""
    name = f"ctr-bench-{os.getpid()}"
    path = f"/run/netns/{name}"
    os.makedirs("/run/netns", exist_ok=True)
    open(path, "x").close()
    try:
        subprocess.run(["mount", "--bind", f"/proc/{pid}/ns/net", path], check=True)
        try:
            yield name
        finally:
            subprocess.run(["umount", path], check=True)
    finally:
        os.unlink(path)


def compare(threads, path, agent, backend, namespace, folder, pairs):
    cores = "0" if threads == 1 else f"0-{threads - 1}"
    processes = []
    try:
        targets = [Target("ctr", agent.port, "a.web.localhost", [agent.process.pid])]
        for name, text in (("haproxy", HAPROXY), ("nginx", NGINX)):
            port = free_port()
            config = f"{folder}/{name}.conf"
            with open(config, "w") as file:
                file.write(text.format(threads=threads, port=port, backend=backend, folder=folder,
                                       instance=INSTANCE, namespace=namespace))
            command = ["haproxy", "-db", "-f", config] if name == "haproxy" else ["nginx", "-c", config]
            process = started_peer(name, command, port)
            processes.append(process)
            workers = children(process.pid) if name == "nginx" else []
            targets.append(Target(name, port, "localhost", [process.pid, *workers]))
        for target in targets:
            for pid in target.pids:
                pin(pid, cores)
        figures = {target.name: [] for target in targets}
        for i in range(pairs + 1):
            for target in targets:
                figure = target.measure(path)
                if i > 0:  # the first round warms up
                    figures[target.name].append(figure)
        tell(threads, path, figures, {target.name: target.syscalls(path) for target in targets})
    finally:
        for process in processes:
            process.terminate()
            process.wait()


def tell(threads, path, figures, syscalls):
    print(f"{path.removeprefix('/bytes/')} bytes, {threads} data thread{'s' if threads > 1 else ''}, {CONNECTIONS} connections, "
          f"median of {len(figures['ctr'])} rounds:")
    print("             CPU µs   requests/s   p50 ms   p99 ms   syscalls")
    for name, rounds in figures.items():
        median = {key: statistics.median(figure[key] for figure in rounds) for key in rounds[0]}
        calls = f"{syscalls[name]:10.1f}" if syscalls[name] is not None else "         -"
        print(f"  {name:8}{median['cpu']:9.1f}{median['rate']:13.0f}{median['p50']:9.2f}{median['p99']:9.2f} {calls}")
    rounds = list(zip(figures["ctr"], figures["haproxy"], figures["nginx"]))
    cpu = statistics.median(ours["cpu"] / min(one["cpu"], other["cpu"]) for ours, one, other in rounds)
    rate = statistics.median(ours["rate"] / haproxy["rate"] for ours, haproxy, _ in rounds)
    print(f"  CPU a request against the better peer {cpu:.2f}, requests a second against HAProxy {rate:.2f}", flush=True)


def proxy(pairs=7):
    missing = [tool for tool in ("haproxy", "nginx", "wrk", "perf", "taskset") if not shutil.which(tool)]
    if missing:
        sys.exit(f"scripts/bench proxy: no {', '.join(missing)}; apt-get install haproxy nginx-light wrk linux-perf util-linux")
    with tempfile.TemporaryDirectory(prefix="ctr-bench-") as folder:
        os.chmod(folder, 0o755)
        for threads in (1, 2)[:CPUS]:
            config = f"{folder}/agent-{threads}.toml"
            with open(config, "w") as file:
                file.write(f"data_threads = {threads}\n")
            agent = Agent(["--config", config]).start()
            agent.import_demo()
            agent.apply('name = "web"\nimage = "demo:latest"\ndefault_port = 8080\nsleep_after = "never"\n')
            agent.ctr("get", "web/a")
            server = f"{folder}/server-{threads}"
            agent.ctr("cp", "web/a:/bin/server", server)
            instance = set().union(*processes_of(agent.json("info")["agent_id"]).values())
            for pid in instance:
                pin(pid, str(CPUS - 1))
            backend = free_port()
            process = subprocess.Popen(["taskset", "-c", str(CPUS - 1), server],
                                       env={"PORT": str(backend), "BIND": "127.0.0.1", "CTR_ID": "a"},
                                       stdout=subprocess.DEVNULL)
            try:
                with named_network(min(instance)) as namespace:
                    for path in ("/bytes/64", "/bytes/65536"):
                        compare(threads, path, agent, backend, namespace, folder, pairs)
            finally:
                process.kill()
                process.wait()
                agent.purge()
