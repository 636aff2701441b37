// The demo image's server, which is also the tests' backend: HTTP/1.1 in one thread, nothing but
// the C library, up in a millisecond.
//
//   /            "hello from ID, request N"; N counts the requests since the start
//   /slow/S      headers at once, then a line a second, S seconds long
//   /sleep?s=S   the whole answer after S seconds
//   /echo        the request as it came: line, headers and body
//   /bytes/N     N bytes          /chunked/N   N chunks
//   /status/N    status N         /env         the environment
//   /exit/N      ends the server with exit status N
//   /crash       ends it by SIGSEGV
//   /work?s=S    takes S seconds for it, in which nobody else is answered
//   /cpu/S       computes for S seconds, then answers
//   /gap         µs from listening to the first byte from a client
//   /upgrade     whatever Upgrade asks for: what comes goes back from then on
//
// Environment: CTR_ID; ECHO=1: no HTTP, what comes goes back; PORT (8080); BIND (0.0.0.0);
// SLOWER=N: /work takes N times as long; LISTEN_DELAY_MS: starts to listen that late;
// IGNORE_TERM=1: SIGTERM does nothing; UNAVAILABLE=1: every page is a 503.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { kMaxHead = 64 << 10, kMaxBody = 64 << 20, kBlock = 64 << 10 };

struct Buffer {
  char* data;
  size_t size, capacity;
};

// What is still to be sent after the bytes in `out`.
enum Producer { kNothing, kBytes, kChunks, kTicks };
enum BodyState { kNoBody, kCounted, kChunkSize, kChunkData, kChunkEnd, kTrailer };

struct Connection {
  int fd;
  bool open, ended, watching_write;  // ended: the peer sends no more
  bool reading, keep_alive, head_only, is_echo;
  bool raw, full;  // what comes goes back; and waits while too much has yet to be sent
  struct Buffer in, head, body, out;
  size_t sent;  // of out
  enum BodyState body_state;
  uint64_t body_left;
  enum Producer producer;
  uint64_t left, total;  // bytes, chunks or milliseconds
  int64_t wake_at;       // 0: not waiting for a time
  int exit_code;         // once all is sent; -1: stay
};

static struct Connection** connections;  // by descriptor
static int connection_count;
static int epoll_fd, listener;
static int64_t listening_us, first_byte_us;  // when; 0: not yet
static uint64_t request_count;
static bool echo;
static bool unavailable;
extern char** environ;

static int64_t NowUs(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1000000LL + now.tv_nsec / 1000;
}

static int64_t Now(void) { return NowUs() / 1000; }

static void Die(const char* what) {
  fprintf(stderr, "server: %s: %s\n", what, strerror(errno));
  exit(1);
}

static void Append(struct Buffer* buffer, const char* data, size_t size) {
  if (size == 0) return;
  if (buffer->size + size > buffer->capacity) {
    buffer->capacity = (buffer->size + size) * 2;
    buffer->data = realloc(buffer->data, buffer->capacity);
    if (buffer->data == NULL) Die("out of memory");
  }
  memcpy(buffer->data + buffer->size, data, size);
  buffer->size += size;
}

static void Drop(struct Buffer* buffer, size_t size) {
  buffer->size -= size;
  memmove(buffer->data, buffer->data + size, buffer->size);
}

static void Clear(struct Buffer* buffer) {
  free(buffer->data);
  *buffer = (struct Buffer){0};
}

__attribute__((format(printf, 2, 3))) static void Print(struct Buffer* buffer, const char* format,
                                                        ...) {
  char text[1024];
  va_list arguments;
  va_start(arguments, format);
  int size = vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  Append(buffer, text, (size_t)size < sizeof text ? (size_t)size : sizeof text - 1);
}

static void Close(struct Connection* c) {
  close(c->fd);
  Clear(&c->in);
  Clear(&c->head);
  Clear(&c->body);
  Clear(&c->out);
  c->open = false;
}

// --- Answers ---

static void Head(struct Connection* c, int status, const char* length_field) {
  Print(&c->out, "HTTP/1.1 %d %s\r\nContent-Type: text/plain\r\n%s%s\r\n", status,
        status < 400 ? "OK" : "Error", length_field, c->keep_alive ? "" : "Connection: close\r\n");
}

static void Answer(struct Connection* c, int status, const char* body, size_t size) {
  bool without_body = status == 204 || status == 304;
  char length[64] = "";
  if (!without_body) snprintf(length, sizeof length, "Content-Length: %zu\r\n", size);
  Head(c, status, length);
  if (!without_body && !c->head_only) Append(&c->out, body, size);
}

static void AnswerText(struct Connection* c, int status, const char* format, ...) {
  char text[512];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  Answer(c, status, text, strlen(text));
}

static void Produce(struct Connection* c, enum Producer producer, uint64_t total) {
  char length[64];
  snprintf(length, sizeof length, "Content-Length: %llu\r\n", (unsigned long long)total);
  Head(c, 200, producer == kBytes ? length : "Transfer-Encoding: chunked\r\n");
  if (c->head_only) return;
  c->producer = producer;
  c->left = c->total = total;
  if (producer == kTicks) c->wake_at = Now() + (total < 1000 ? (int64_t)total : 1000);
}

static void AnswerEcho(struct Connection* c) {
  struct Buffer text = {0};
  Append(&text, c->head.data, c->head.size);
  Append(&text, c->body.data, c->body.size);
  Answer(c, 200, text.data, text.size);
  Clear(&text);
}

static void AnswerEnvironment(struct Connection* c) {
  struct Buffer text = {0};
  for (char** variable = environ; *variable != NULL; ++variable) {
    Append(&text, *variable, strlen(*variable));
    Append(&text, "\n", 1);
  }
  Answer(c, 200, text.data, text.size);
  Clear(&text);
}

static void AnswerHello(struct Connection* c) {
  const char* id = getenv("CTR_ID");
  AnswerText(c, 200, "hello from %s, request %llu\n", id != NULL ? id : "nobody",
             (unsigned long long)request_count);
}

// The number after `prefix`, which may have decimals, times `scale`; false if `path` is another.
static bool Number(const char* path, const char* prefix, double scale, uint64_t* number) {
  size_t size = strlen(prefix);
  if (strncmp(path, prefix, size) != 0) return false;
  char* end;
  double value = strtod(path + size, &end);
  if (end == path + size || *end != '\0' || !(value >= 0) || value * scale > 1e15) return false;
  *number = (uint64_t)(value * scale + 0.5);
  return true;
}

static void Compute(uint64_t milliseconds) {
  volatile uint64_t sum = 0;
  for (int64_t end = Now() + (int64_t)milliseconds; Now() < end;) {
    for (int i = 0; i < 100000; ++i) sum += (uint64_t)i;
  }
}

static void Respond(struct Connection* c, const char* path) {
  uint64_t n;
  if (unavailable) {
    AnswerText(c, 503, "not today\n");
  } else if (c->is_echo) {
    AnswerEcho(c);
  } else if (strcmp(path, "/env") == 0) {
    AnswerEnvironment(c);
  } else if (Number(path, "/bytes/", 1, &n)) {
    Produce(c, kBytes, n);
  } else if (Number(path, "/chunked/", 1, &n)) {
    Produce(c, kChunks, n);
  } else if (Number(path, "/slow/", 1000, &n)) {
    Produce(c, kTicks, n);
  } else if (Number(path, "/sleep?s=", 1000, &n)) {
    AnswerHello(c);
    c->wake_at = Now() + (int64_t)n;
  } else if (Number(path, "/work?s=", 1000000, &n)) {
    const char* slower = getenv("SLOWER");
    usleep((useconds_t)n * (slower != NULL ? (useconds_t)atoi(slower) : 1));
    AnswerText(c, 200, "done\n");
  } else if (Number(path, "/cpu/", 1000, &n)) {
    Compute(n);
    AnswerHello(c);
  } else if (Number(path, "/status/", 1, &n) && n >= 200 && n <= 599) {
    AnswerText(c, (int)n, "status %d\n", (int)n);
  } else if (Number(path, "/exit/", 1, &n) && n <= 255) {
    c->keep_alive = false;
    c->exit_code = (int)n;
    AnswerText(c, 200, "exiting with %d\n", (int)n);
  } else if (strcmp(path, "/crash") == 0) {
    // The first process of a container is spared by a signal that it sends, not by a fault of its
    // own.
    *(volatile char*)1 = 0;
  } else if (strcmp(path, "/gap") == 0) {
    AnswerText(c, 200, "%lld\n", (long long)(first_byte_us - listening_us));
  } else if (strcmp(path, "/") == 0 || path[1] == '?') {
    AnswerHello(c);
  } else {
    AnswerText(c, 404, "there is no such page\n");
  }
}

static void AppendChunk(struct Buffer* out, const char* text) {
  Print(out, "%zx\r\n%s\r\n", strlen(text), text);
}

// Adds the next piece of a long answer to `out`.
static void Continue(struct Connection* c) {
  char text[64];
  if (c->producer == kBytes) {
    static char block[kBlock];
    if (block[0] == '\0') memset(block, 'x', sizeof block);
    size_t size = c->left < sizeof block ? (size_t)c->left : sizeof block;
    Append(&c->out, block, size);
    c->left -= size;
  } else if (c->left > 0) {
    uint64_t step = c->producer == kChunks ? 1 : c->left < 1000 ? c->left : 1000;
    c->left -= step;
    snprintf(text, sizeof text, c->producer == kChunks ? "chunk %llu\n" : "%llu ms\n",
             (unsigned long long)(c->total - c->left));
    AppendChunk(&c->out, text);
    if (c->producer == kTicks && c->left > 0) {
      c->wake_at = Now() + (c->left < 1000 ? (int64_t)c->left : 1000);
    }
  }
  if (c->left > 0) return;
  if (c->producer != kBytes) Append(&c->out, "0\r\n\r\n", 5);
  c->producer = kNothing;
}

// --- Requests ---

static void Refuse(struct Connection* c, int status, const char* why) {
  c->keep_alive = false;
  c->reading = false;
  AnswerText(c, status, "%s\n", why);
}

static const char* Field(const struct Connection* c, const char* name, char* value, size_t size) {
  size_t name_size = strlen(name);
  const char* end = c->head.data + c->head.size;
  for (const char* line = c->head.data; line < end;) {
    const char* line_end = memmem(line, (size_t)(end - line), "\r\n", 2);
    if (line_end - line > (ptrdiff_t)name_size && line[name_size] == ':' &&
        strncasecmp(line, name, name_size) == 0) {
      line += name_size + 1;
      line += strspn(line, " \t");
      snprintf(value, size, "%.*s", (int)(line_end - line), line);
      return value;
    }
    line = line_end + 2;
  }
  return "";
}

// Takes a request's head off `in`, and learns what body follows it.
static void ReadHead(struct Connection* c) {
  char* end = c->in.size == 0 ? NULL : memmem(c->in.data, c->in.size, "\r\n\r\n", 4);
  if (end == NULL) {
    if (c->in.size > kMaxHead) Refuse(c, 431, "the head is too large");
    return;
  }
  Clear(&c->head);
  Clear(&c->body);
  size_t size = (size_t)(end - c->in.data) + 4;
  Append(&c->head, c->in.data, size);
  Drop(&c->in, size);
  c->reading = true;
  char value[256];
  bool is_old = memmem(c->head.data, strcspn(c->head.data, "\r"), " HTTP/1.0", 9) != NULL;
  const char* connection = Field(c, "Connection", value, sizeof value);
  c->keep_alive =
      is_old ? strcasecmp(connection, "keep-alive") == 0 : strcasecmp(connection, "close") != 0;
  c->head_only = strncmp(c->head.data, "HEAD ", 5) == 0;
  const char* path = memchr(c->head.data, ' ', size);
  c->is_echo = path != NULL && strncmp(path + 1, "/echo", 5) == 0;
  if (strcasecmp(Field(c, "Transfer-Encoding", value, sizeof value), "chunked") == 0) {
    c->body_state = kChunkSize;
  } else {
    c->body_left = strtoull(Field(c, "Content-Length", value, sizeof value), NULL, 10);
    c->body_state = c->body_left > 0 ? kCounted : kNoBody;
  }
  if (strcasecmp(Field(c, "Expect", value, sizeof value), "100-continue") == 0) {
    Append(&c->out, "HTTP/1.1 100 Continue\r\n\r\n", 25);
  }
}

// Takes a line off `in`; false if it is not whole yet.
static bool TakeLine(struct Connection* c, char* line, size_t size) {
  char* end = c->in.size == 0 ? NULL : memmem(c->in.data, c->in.size, "\r\n", 2);
  if (end == NULL) return false;
  snprintf(line, size, "%.*s", (int)(end - c->in.data), c->in.data);
  Drop(&c->in, (size_t)(end - c->in.data) + 2);
  return true;
}

// Takes what has come of the body off `in`; false if more has to come.
static bool ReadBody(struct Connection* c) {
  char line[64];
  while (c->body_state != kNoBody) {
    if (c->body_state == kCounted || c->body_state == kChunkData) {
      size_t size = c->in.size < c->body_left ? c->in.size : (size_t)c->body_left;
      if (c->is_echo) Append(&c->body, c->in.data, size);
      Drop(&c->in, size);
      c->body_left -= size;
      if (c->body.size > kMaxBody) return Refuse(c, 413, "the body is too large"), false;
      if (c->body_left > 0) return false;
      c->body_state = c->body_state == kCounted ? kNoBody : kChunkEnd;
      continue;
    }
    if (!TakeLine(c, line, sizeof line)) return false;
    if (c->body_state == kChunkEnd) {
      c->body_state = kChunkSize;
    } else if (c->body_state == kChunkSize) {
      c->body_left = strtoull(line, NULL, 16);
      c->body_state = c->body_left > 0 ? kChunkData : kTrailer;
    } else if (line[0] == '\0') {
      c->body_state = kNoBody;
    }
  }
  return true;
}

static void HandleRequest(struct Connection* c) {
  c->reading = false;
  ++request_count;
  char path[2048] = "";
  if (sscanf(c->head.data, "%*s %2047s HTTP/1.", path) != 1 || path[0] != '/') {
    return Refuse(c, 400, "this is no request");
  }
  char protocol[64];
  if (strcmp(path, "/upgrade") == 0 && Field(c, "Upgrade", protocol, sizeof protocol)[0] != '\0') {
    Print(&c->out, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: %s\r\n\r\n",
          protocol);
    c->raw = true;
    return;
  }
  Respond(c, path);
}

// --- Connections ---

static void Watch(struct Connection* c) {
  uint32_t events = (c->ended || c->full ? 0 : EPOLLIN) | (c->watching_write ? EPOLLOUT : 0);
  struct epoll_event event = {.events = events, .data.fd = c->fd};
  epoll_ctl(epoll_fd, EPOLL_CTL_MOD, c->fd, &event);
}

static void WatchWrite(struct Connection* c, bool write) {
  if (write == c->watching_write) return;
  c->watching_write = write;
  Watch(c);
}

// Sends what can be sent; false if the peer is gone or has to take it first.
static bool Flush(struct Connection* c) {
  while (c->sent < c->out.size) {
    ssize_t size = send(c->fd, c->out.data + c->sent, c->out.size - c->sent, MSG_NOSIGNAL);
    if (size < 0 && errno == EINTR) continue;
    if (size < 0 && errno == EAGAIN) return WatchWrite(c, true), false;
    if (size < 0) return Close(c), false;
    c->sent += (size_t)size;
  }
  c->out.size = c->sent = 0;
  WatchWrite(c, false);
  return true;
}

// Nothing can be done before the peer sends more.
static void Await(struct Connection* c) {
  if (c->ended) Close(c);
}

static void Echo(struct Connection* c) {
  Append(&c->out, c->in.data, c->in.size);
  c->in.size = 0;
  const bool sent = Flush(c);
  if (!c->open) return;
  if (sent && c->ended) return Close(c);
  const bool full = c->out.size - c->sent > kBlock;
  if (full == c->full) return;
  c->full = full;
  Watch(c);
}

// Goes on with whatever a connection can do now: one request after the other.
static void Advance(struct Connection* c) {
  if (c->raw) return Echo(c);
  while (c->open && c->wake_at == 0) {
    if (!Flush(c)) return;
    if (c->producer != kNothing) {
      Continue(c);
    } else if (c->exit_code >= 0) {
      exit(c->exit_code);
    } else if (!c->reading && !c->keep_alive) {
      return Close(c);
    } else if (!c->reading) {
      ReadHead(c);
      if (!c->reading && c->out.size == 0) return Await(c);
    } else if (ReadBody(c)) {
      HandleRequest(c);
      if (c->raw) return Echo(c);
      // A long answer's head goes at once; the whole of a /sleep waits for its time.
      if (c->wake_at != 0 && c->producer != kNothing && !Flush(c)) return;
    } else if (c->out.size == 0) {
      return Await(c);
    }
  }
}

static void Receive(struct Connection* c) {
  char block[kBlock];
  ssize_t size = recv(c->fd, block, sizeof block, 0);
  if (size < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (size < 0 || (size == 0 && c->ended)) return Close(c);
  if (size == 0) {
    // It may have closed its side alone, and still wait for the answer.
    c->ended = true;
    Watch(c);
  }
  if (first_byte_us == 0 && size > 0) first_byte_us = NowUs();
  Append(&c->in, block, (size_t)size);
  Advance(c);
}

static void Accept(void) {
  int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
  if (fd < 0) return;
  // Head and body are written one after the other: the second must not wait for an acknowledgement.
  const int on = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  if (fd >= connection_count) {
    int count = fd * 2 + 64;
    connections = realloc(connections, (size_t)count * sizeof *connections);
    if (connections == NULL) Die("out of memory");
    memset(connections + connection_count, 0,
           (size_t)(count - connection_count) * sizeof *connections);
    connection_count = count;
  }
  if (connections[fd] == NULL && !(connections[fd] = malloc(sizeof **connections))) Die("malloc");
  *connections[fd] =
      (struct Connection){.fd = fd, .open = true, .keep_alive = true, .raw = echo, .exit_code = -1};
  struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
  epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event);
}

// Goes on with the answers whose time has come. Returns the milliseconds until the next; -1: none.
static int RunTimers(void) {
  int64_t now = Now();
  int64_t next = -1;
  for (int fd = 0; fd < connection_count; ++fd) {
    struct Connection* c = connections[fd];
    if (c == NULL || !c->open || c->wake_at == 0) continue;
    if (c->wake_at <= now) {
      c->wake_at = 0;
      if (c->producer != kNothing) Continue(c);
      // The piece goes out although the next one already has its time.
      if (Flush(c)) Advance(c);
    }
    if (c->open && c->wake_at != 0 && (next < 0 || c->wake_at - now < next)) {
      next = c->wake_at > now ? c->wake_at - now : 0;
    }
  }
  return (int)next;
}

static void OnTerm(int signal) {
  (void)signal;
  _exit(0);
}

static void Listen(void) {
  const char* port = getenv("PORT");
  const char* address = getenv("BIND");
  struct sockaddr_in local = {.sin_family = AF_INET};
  local.sin_port = htons((uint16_t)atoi(port != NULL ? port : "8080"));
  if (inet_pton(AF_INET, address != NULL ? address : "0.0.0.0", &local.sin_addr) != 1) {
    errno = EINVAL;
    Die("BIND, which has to be an IPv4 address");
  }
  listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int));
  if (bind(listener, (struct sockaddr*)&local, sizeof local) < 0) Die("bind");
  if (listen(listener, 4096) < 0) Die("listen");
  listening_us = NowUs();
  struct epoll_event event = {.events = EPOLLIN, .data.fd = listener};
  epoll_ctl(epoll_fd, EPOLL_CTL_ADD, listener, &event);
  printf("listening on port %d\n", ntohs(local.sin_port));
  fflush(stdout);
}

int main(void) {
  // As the first process of a container, it has no default actions: SIGTERM needs a handler.
  const char* ignore = getenv("IGNORE_TERM");
  signal(SIGTERM, ignore != NULL && strcmp(ignore, "1") == 0 ? SIG_IGN : OnTerm);
  signal(SIGINT, OnTerm);
  struct rlimit files;
  getrlimit(RLIMIT_NOFILE, &files);
  files.rlim_cur = files.rlim_max;
  setrlimit(RLIMIT_NOFILE, &files);
  const char* delay = getenv("LISTEN_DELAY_MS");
  const char* echo_text = getenv("ECHO");
  echo = echo_text != NULL && strcmp(echo_text, "1") == 0;
  const char* unavailable_text = getenv("UNAVAILABLE");
  unavailable = unavailable_text != NULL && strcmp(unavailable_text, "1") == 0;
  if (delay != NULL) usleep((useconds_t)atoi(delay) * 1000);
  epoll_fd = epoll_create1(EPOLL_CLOEXEC);
  Listen();
  while (true) {
    struct epoll_event events[256];
    int count = epoll_wait(epoll_fd, events, 256, RunTimers());
    for (int i = 0; i < count; ++i) {
      int fd = events[i].data.fd;
      if (fd == listener) {
        Accept();
      } else if (events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) {
        Receive(connections[fd]);
      } else if (Flush(connections[fd])) {
        Advance(connections[fd]);
      }
    }
  }
}
