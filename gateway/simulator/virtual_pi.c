/*
 * Preloaded into an unmodified process, gives it the devices of a Raspberry Pi that has none.
 *
 *   /dev/spidevB.D           SPI at ioctl level (linux/spi/spidev.h), carried over a SOCK_SEQPACKET socket
 *                            $VIRTUAL_PI_DIR/spidevB.D.sock to the process that emulates the chip
 *   /dev/gpiomem             $VIRTUAL_PI_DIR/gpiomem, 4096 bytes that the process maps as GPIO registers
 *   /dev/gpiochip0           lines as outputs and inputs on those registers, each held by a lock file
 *                            $VIRTUAL_PI_DIR/lineN.lock, so that a second process finds it busy; and lines for falling edges (linux/gpio.h, version 2); the descriptor of line N is a socket
 *                            to $VIRTUAL_PI_DIR/gpioN.sock, whose datagrams are struct gpio_v2_line_event, and one
 *                            on which nothing ever comes when there is no such socket: a pin with nothing on it
 *   /proc/cpuinfo, /proc/device-tree/system/linux,revision
 *                            $VIRTUAL_PI_DIR/cpuinfo, and nothing
 *
 * VIRTUAL_PI_BOARD=pi5 makes it a Pi 5: its controller is /dev/gpiochip4, and there is no /dev/gpiomem.
 *
 * VIRTUAL_PI_IOCTL_US and VIRTUAL_PI_TRANSFER_US make a call and a transfer cost processor time, as they do on a Pi.
 * Delays inside a message are slept here, as the kernel does.
 *
 * Request datagram: u32 flags (1 = first of its call), u32 count, then per transfer u32 length, u32 speed_hz, bytes.
 * Answer datagram: i32 errno (0 = done), then the received bytes of all transfers in order.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/gpio.h>
#include <linux/spi/spidev.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/types.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define MAX_FD 4096
#define MAX_DATAGRAM 65536

static int links[MAX_FD]; /* socket of an open spidev, plus one; 0 = not ours */
static uint8_t controllers[MAX_FD]; /* 1 = an open controller */
static uint8_t lines[MAX_FD]; /* pin of an open line, plus one; 0 = not ours */
static volatile uint32_t *registers;
static int is_pi5;
static uint8_t modes[MAX_FD];
static uint8_t word_bits[MAX_FD];
static uint32_t speeds[MAX_FD];
static long ioctl_us, transfer_us;
static const char *folder;

static int (*real_open)(const char *, int, ...);
static int (*real_open64)(const char *, int, ...);
static FILE *(*real_fopen)(const char *, const char *);
static FILE *(*real_fopen64)(const char *, const char *);
static int (*real_close)(int);
static int (*real_ioctl)(int, unsigned long, ...);
static ssize_t (*real_read)(int, void *, size_t);
static ssize_t (*real_write)(int, const void *, size_t);
static char *(*real_realpath)(const char *, char *);
static int (*real_xstat)(int, const char *, struct stat *);
static int (*real_lxstat)(int, const char *, struct stat *);

#define GPSET0 (0x1C / 4)
#define GPCLR0 (0x28 / 4)
#define GPLEV0 (0x34 / 4)
#define GPIO_BYTES 4096
#define CONTROLLER (is_pi5 ? "/dev/gpiochip4" : "/dev/gpiochip0")
#define CONTROLLER_DEVICE makedev(254, 0)
#define SUBSYSTEM "/sys/dev/char/254:0/subsystem"

__attribute__((constructor)) static void start(void)
{
    const char *text;
    real_open = dlsym(RTLD_NEXT, "open");
    real_open64 = dlsym(RTLD_NEXT, "open64");
    real_fopen = dlsym(RTLD_NEXT, "fopen");
    real_fopen64 = dlsym(RTLD_NEXT, "fopen64");
    real_close = dlsym(RTLD_NEXT, "close");
    real_ioctl = dlsym(RTLD_NEXT, "ioctl");
    real_read = dlsym(RTLD_NEXT, "read");
    real_write = dlsym(RTLD_NEXT, "write");
    real_realpath = dlsym(RTLD_NEXT, "realpath");
    real_xstat = dlsym(RTLD_NEXT, "__xstat");
    real_lxstat = dlsym(RTLD_NEXT, "__lxstat");
    folder = getenv("VIRTUAL_PI_DIR");
    is_pi5 = (text = getenv("VIRTUAL_PI_BOARD")) && !strcmp(text, "pi5");
    ioctl_us = (text = getenv("VIRTUAL_PI_IOCTL_US")) ? atol(text) : 0;
    transfer_us = (text = getenv("VIRTUAL_PI_TRANSFER_US")) ? atol(text) : 0;
}

static int ours(int fd) { return fd >= 0 && fd < MAX_FD && links[fd]; }

static void spin(long microseconds)
{
    struct timespec begin, now;
    if (microseconds <= 0)
        return;
    clock_gettime(CLOCK_MONOTONIC, &begin);
    do
        clock_gettime(CLOCK_MONOTONIC, &now);
    while ((now.tv_sec - begin.tv_sec) * 1000000000L + now.tv_nsec - begin.tv_nsec < microseconds * 1000L);
}

static int open_spi(const char *path, int flags)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    char lock[256];
    int fd, link;
    const char *name = path + 5; /* after "/dev/" */
    snprintf(address.sun_path, sizeof address.sun_path, "%s/%s.sock", folder, name);
    link = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (link < 0)
        return -1;
    if (connect(link, (struct sockaddr *)&address, sizeof address) < 0) {
        real_close(link);
        errno = ENOENT;
        return -1;
    }
    /* The descriptor handed out is a file of its own, so that flock works between processes as on a device. */
    snprintf(lock, sizeof lock, "%s/%s.lock", folder, name);
    fd = real_open(lock, O_RDWR | O_CREAT | (flags & O_CLOEXEC), 0600);
    if (fd < 0 || fd >= MAX_FD) {
        real_close(link);
        return -1;
    }
    links[fd] = link + 1;
    modes[fd] = 0;
    word_bits[fd] = 8;
    speeds[fd] = 500000;
    return fd;
}

static int open_controller(int flags)
{
    int fd = real_open("/dev/null", O_RDWR | (flags & O_CLOEXEC));
    if (fd >= 0 && fd < MAX_FD)
        controllers[fd] = 1;
    return fd;
}

static void drive(unsigned pin, int high) { registers[high ? GPSET0 : GPCLR0] = 1u << pin; }

static int map_registers(void)
{
    char path[256];
    int fd;
    if (registers)
        return 0;
    snprintf(path, sizeof path, "%s/gpiomem", folder);
    if ((fd = real_open(path, O_RDWR)) < 0)
        return -1;
    registers = mmap(NULL, GPIO_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    real_close(fd);
    return registers == MAP_FAILED ? -1 : 0;
}

/* Makes an output have the level that its request names. */
static void configure(unsigned pin, const struct gpio_v2_line_config *config)
{
    uint32_t i;
    if (!(config->flags & GPIO_V2_LINE_FLAG_OUTPUT))
        return;
    registers[pin / 10] = (registers[pin / 10] & ~(7u << pin % 10 * 3)) | 1u << pin % 10 * 3;
    for (i = 0; i < config->num_attrs; i++)
        if (config->attrs[i].attr.id == GPIO_V2_LINE_ATTR_ID_OUTPUT_VALUES && config->attrs[i].mask & 1)
            drive(pin, config->attrs[i].attr.values & 1);
}

static int hold_line(unsigned pin)
{
    char path[256];
    int fd;
    snprintf(path, sizeof path, "%s/line%u.lock", folder, pin);
    fd = real_open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) < 0) {
        real_close(fd);
        errno = EBUSY;
        return -1;
    }
    return fd;
}

static int take_level_line(struct gpio_v2_line_request *request)
{
    unsigned pin = request->offsets[0];
    if (map_registers() < 0 || (request->fd = hold_line(pin)) < 0)
        return -1;
    if (request->fd < MAX_FD)
        lines[request->fd] = pin + 1;
    if (real_write(request->fd, request->consumer, strlen(request->consumer)) < 0)
        return -1;
    configure(pin, &request->config);
    return 0;
}

static int line_ioctl(int fd, unsigned long request, void *argument)
{
    unsigned pin = lines[fd] - 1u;
    struct gpio_v2_line_values *values = argument;
    switch (request) {
    case GPIO_V2_LINE_SET_VALUES_IOCTL: drive(pin, values->bits & 1); return 0;
    case GPIO_V2_LINE_GET_VALUES_IOCTL: values->bits = registers[GPLEV0] >> pin & 1; return 0;
    case GPIO_V2_LINE_SET_CONFIG_IOCTL: configure(pin, argument); return 0;
    default: errno = ENOTTY; return -1;
    }
}

static int describe_line(struct gpio_v2_line_info *info)
{
    uint32_t pin = info->offset;
    int fd = hold_line(pin);
    char path[256];
    memset(info, 0, sizeof *info);
    info->offset = pin;
    if (fd >= 0) {
        real_close(fd);
        return 0;
    }
    info->flags = GPIO_V2_LINE_FLAG_USED;
    snprintf(path, sizeof path, "%s/line%u.lock", folder, pin);
    if ((fd = real_open(path, O_RDONLY)) < 0 || real_read(fd, info->consumer, sizeof info->consumer - 1) < 0)
        return -1;
    real_close(fd);
    return 0;
}

static int take_line(struct gpio_v2_line_request *request)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int pair[2];
    if (request->num_lines != 1 || request->offsets[0] > 27) {
        errno = EINVAL;
        return -1;
    }
    if (!(request->config.flags & GPIO_V2_LINE_FLAG_EDGE_FALLING))
        return take_level_line(request);
    snprintf(address.sun_path, sizeof address.sun_path, "%s/gpio%u.sock", folder, request->offsets[0]);
    request->fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (request->fd < 0)
        return -1;
    if (!connect(request->fd, (struct sockaddr *)&address, sizeof address))
        return 0;
    real_close(request->fd);
    /* The far end stays open for as long as the process lives, so that this one never reads as closed. */
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
        return -1;
    request->fd = pair[0];
    return 0;
}

static int controller_ioctl(unsigned long request, void *argument)
{
    struct gpiochip_info *info = argument;
    switch (request) {
    case GPIO_GET_CHIPINFO_IOCTL:
        memset(info, 0, sizeof *info);
        strcpy(info->name, "gpiochip0");
        strcpy(info->label, is_pi5 ? "pinctrl-rp1" : "pinctrl-bcm2711");
        info->lines = 58;
        return 0;
    case GPIO_V2_GET_LINE_IOCTL: return take_line(argument);
    case GPIO_V2_GET_LINEINFO_IOCTL: return describe_line(argument);
    default: errno = ENOTTY; return -1;
    }
}

/* Gives the path to open instead, path itself when it is not one of ours, NULL when it must not exist. */
static const char *redirect(const char *path, char *buffer, size_t size)
{
    if (!folder || !path)
        return path;
    if (!strcmp(path, "/dev/gpiomem") && is_pi5)
        return NULL;
    if (!strcmp(path, "/dev/gpiomem"))
        snprintf(buffer, size, "%s/gpiomem", folder);
    else if (!strcmp(path, "/proc/cpuinfo"))
        snprintf(buffer, size, "%s/cpuinfo", folder);
    else if (!strncmp(path, "/proc/device-tree/", 18) || !strcmp(path, "/dev/mem"))
        return NULL;
    else
        return path;
    return buffer;
}

static int open_any(int (*how)(const char *, int, ...), const char *path, int flags, mode_t mode)
{
    char buffer[256];
    if (folder && path && !strncmp(path, "/dev/spidev", 11))
        return open_spi(path, flags);
    if (folder && path && !strcmp(path, CONTROLLER))
        return open_controller(flags);
    path = redirect(path, buffer, sizeof buffer);
    if (!path) {
        errno = ENOENT;
        return -1;
    }
    return how(path, flags, mode);
}

#define OPEN(name)                                                                                                     \
    int name(const char *path, int flags, ...)                                                                         \
    {                                                                                                                  \
        mode_t mode = 0;                                                                                               \
        if (flags & (O_CREAT | __O_TMPFILE)) {                                                                         \
            va_list rest;                                                                                              \
            va_start(rest, flags);                                                                                     \
            mode = va_arg(rest, mode_t);                                                                               \
            va_end(rest);                                                                                              \
        }                                                                                                              \
        return open_any(real_##name, path, flags, mode);                                                               \
    }

OPEN(open)
OPEN(open64)

#define FOPEN(name)                                                                                                    \
    FILE *name(const char *path, const char *mode)                                                                     \
    {                                                                                                                  \
        char buffer[256];                                                                                              \
        path = redirect(path, buffer, sizeof buffer);                                                                  \
        if (!path) {                                                                                                   \
            errno = ENOENT;                                                                                            \
            return NULL;                                                                                               \
        }                                                                                                              \
        return real_##name(path, mode);                                                                                \
    }

FOPEN(fopen)
FOPEN(fopen64)

int close(int fd)
{
    if (ours(fd)) {
        real_close(links[fd] - 1);
        links[fd] = 0;
    }
    if (fd >= 0 && fd < MAX_FD)
        controllers[fd] = lines[fd] = 0;
    return real_close(fd);
}

/* libgpiod looks whether a path is a character device of the subsystem gpio before it opens it. */
static int describe_controller(const char *path, struct stat *status)
{
    if (!folder || !path || strcmp(path, CONTROLLER))
        return 0;
    memset(status, 0, sizeof *status);
    status->st_mode = S_IFCHR | 0660;
    status->st_rdev = CONTROLLER_DEVICE;
    return 1;
}

int __xstat(int version, const char *path, struct stat *status)
{
    return describe_controller(path, status) ? 0 : real_xstat(version, path, status);
}

int __lxstat(int version, const char *path, struct stat *status)
{
    return describe_controller(path, status) ? 0 : real_lxstat(version, path, status);
}

char *realpath(const char *path, char *buffer)
{
    const char *known = !folder || !path ? NULL : !strcmp(path, CONTROLLER) ? path : !strcmp(path, SUBSYSTEM) ? "/sys/bus/gpio" : NULL;
    if (!known)
        return real_realpath(path, buffer);
    return buffer ? strcpy(buffer, known) : strdup(known);
}

/* Sends transfers [from, to) in one datagram and fills their receive buffers. */
static int exchange(int fd, struct spi_ioc_transfer *items, int from, int to)
{
    static __thread uint8_t datagram[MAX_DATAGRAM];
    uint32_t head[2] = {from == 0, (uint32_t)(to - from)};
    size_t used = sizeof head, wanted = 4, place = 4;
    int32_t status;
    ssize_t got;
    int i;
    memcpy(datagram, head, sizeof head);
    for (i = from; i < to; i++) {
        uint32_t entry[2] = {items[i].len, items[i].speed_hz ? items[i].speed_hz : speeds[fd]};
        if (used + sizeof entry + items[i].len > sizeof datagram) {
            errno = EMSGSIZE;
            return -1;
        }
        memcpy(datagram + used, entry, sizeof entry);
        used += sizeof entry;
        if (items[i].tx_buf)
            memcpy(datagram + used, (void *)(uintptr_t)items[i].tx_buf, items[i].len);
        else
            memset(datagram + used, 0, items[i].len);
        used += items[i].len;
        wanted += items[i].len;
        spin(transfer_us);
    }
    if (send(links[fd] - 1, datagram, used, MSG_NOSIGNAL) < 0 ||
        (got = recv(links[fd] - 1, datagram, sizeof datagram, 0)) < 4) {
        errno = ENODEV;
        return -1;
    }
    memcpy(&status, datagram, sizeof status);
    if (status || (size_t)got != wanted) {
        errno = status ? status : EIO;
        return -1;
    }
    for (i = from; i < to; i++) {
        if (items[i].rx_buf)
            memcpy((void *)(uintptr_t)items[i].rx_buf, datagram + place, items[i].len);
        place += items[i].len;
    }
    return 0;
}

static int message(int fd, struct spi_ioc_transfer *items, int count)
{
    int from = 0, i, total = 0;
    spin(ioctl_us);
    for (i = 0; i < count; i++) {
        total += items[i].len;
        if (!items[i].delay_usecs && i + 1 < count)
            continue;
        if (exchange(fd, items, from, i + 1) < 0)
            return -1;
        from = i + 1;
        if (items[i].delay_usecs) {
            struct timespec wait = {0, items[i].delay_usecs * 1000L};
            nanosleep(&wait, NULL);
        }
    }
    return total;
}

int ioctl(int fd, unsigned long request, ...)
{
    va_list rest;
    void *argument;
    va_start(rest, request);
    argument = va_arg(rest, void *);
    va_end(rest);
    if (fd >= 0 && fd < MAX_FD && controllers[fd])
        return controller_ioctl(request & 0xFFFFFFFFUL, argument);
    if (fd >= 0 && fd < MAX_FD && lines[fd])
        return line_ioctl(fd, request & 0xFFFFFFFFUL, argument);
    if (!ours(fd))
        return real_ioctl(fd, request, argument);
    request &= 0xFFFFFFFFUL;
    if (_IOC_TYPE(request) != SPI_IOC_MAGIC) {
        errno = ENOTTY;
        return -1;
    }
    switch (request) {
    case SPI_IOC_RD_MODE: *(uint8_t *)argument = modes[fd]; return 0;
    case SPI_IOC_WR_MODE: modes[fd] = *(uint8_t *)argument; return 0;
    case SPI_IOC_RD_MODE32: *(uint32_t *)argument = modes[fd]; return 0;
    case SPI_IOC_WR_MODE32: modes[fd] = (uint8_t) * (uint32_t *)argument; return 0;
    case SPI_IOC_RD_LSB_FIRST: *(uint8_t *)argument = 0; return 0;
    case SPI_IOC_WR_LSB_FIRST: return 0;
    case SPI_IOC_RD_BITS_PER_WORD: *(uint8_t *)argument = word_bits[fd]; return 0;
    case SPI_IOC_WR_BITS_PER_WORD: word_bits[fd] = *(uint8_t *)argument; return 0;
    case SPI_IOC_RD_MAX_SPEED_HZ: *(uint32_t *)argument = speeds[fd]; return 0;
    case SPI_IOC_WR_MAX_SPEED_HZ: speeds[fd] = *(uint32_t *)argument; return 0;
    default: break;
    }
    if (_IOC_NR(request) != 0 || _IOC_SIZE(request) % sizeof(struct spi_ioc_transfer)) {
        errno = ENOTTY;
        return -1;
    }
    return message(fd, argument, (int)(_IOC_SIZE(request) / sizeof(struct spi_ioc_transfer)));
}

ssize_t read(int fd, void *buffer, size_t size)
{
    struct spi_ioc_transfer item = {.rx_buf = (uintptr_t)buffer, .len = (uint32_t)size};
    return ours(fd) ? message(fd, &item, 1) : real_read(fd, buffer, size);
}

ssize_t write(int fd, const void *buffer, size_t size)
{
    struct spi_ioc_transfer item = {.tx_buf = (uintptr_t)buffer, .len = (uint32_t)size};
    return ours(fd) ? message(fd, &item, 1) : real_write(fd, buffer, size);
}
