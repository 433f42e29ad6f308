/* A small disk where none can be mounted: loaded before libc, it refuses with ENOSPC each write by
 * which the files under SMALL_DISK would have more than SMALL_DISK_BYTES. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <ftw.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

static __thread off_t used;

static int count(const char *path, const struct stat *file, int type, struct FTW *place) {
    (void)path, (void)place;
    if (type == FTW_F)
        used += file->st_size;
    return 0;
}

/* Whether the disk has no room for this file to end there. */
static int full(int fd, off_t end) {
    char link[64], path[PATH_MAX];
    const char *root = getenv("SMALL_DISK"), *bytes = getenv("SMALL_DISK_BYTES");
    struct stat file;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (!root || !bytes || length < 0 || fstat(fd, &file) || end <= file.st_size)
        return 0;
    path[length] = 0;
    if (strncmp(path, root, strlen(root)))
        return 0;
    used = end - file.st_size;
    nftw(root, count, 8, FTW_PHYS);
    return used > atoll(bytes);
}

static off_t at(int fd) {
    int before = errno;
    off_t place = lseek(fd, 0, SEEK_CUR);
    errno = before;
    return place;
}

#define REAL(result, name, ...) \
    static result (*real)(__VA_ARGS__); \
    if (!real) \
        real = (result(*)(__VA_ARGS__))dlsym(RTLD_NEXT, #name)
#define REFUSE_IF(what) \
    if (what) \
        return errno = ENOSPC, -1

ssize_t write(int fd, const void *data, size_t size) {
    REAL(ssize_t, write, int, const void *, size_t);
    off_t place = at(fd);
    REFUSE_IF(place >= 0 && full(fd, place + size));
    return real(fd, data, size);
}

ssize_t writev(int fd, const struct iovec *parts, int many) {
    REAL(ssize_t, writev, int, const struct iovec *, int);
    off_t end = at(fd);
    for (int i = 0; end >= 0 && i < many; i++)
        end += parts[i].iov_len;
    REFUSE_IF(end >= 0 && full(fd, end));
    return real(fd, parts, many);
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t place) {
    REAL(ssize_t, pwrite, int, const void *, size_t, off_t);
    REFUSE_IF(full(fd, place + size));
    return real(fd, data, size, place);
}

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t place) {
    REAL(ssize_t, pwrite64, int, const void *, size_t, off64_t);
    REFUSE_IF(full(fd, place + size));
    return real(fd, data, size, place);
}
