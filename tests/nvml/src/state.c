/* The shared file, locking, faults and the log of calls. */
#include "state.h"

#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

State *machine;

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static char opened_path[4096];
static int lock_fd = -1;
static pid_t lock_owner;
static int references;
static unsigned epoch; /* how often the machine was let go: a call that hung does not go on in another one */

static void forget(void) {
    if (machine) munmap(machine, sizeof *machine);
    if (lock_fd >= 0) close(lock_fd);
    machine = NULL;
    lock_fd = -1;
    references = 0;
    epoch++;
    opened_path[0] = 0;
}

/* Locks of flock() belong to the open file, which a forked child shares: it opens the file again. */
static void lock_file(void) {
    if (lock_owner != getpid()) {
        lock_fd = open(opened_path, O_RDWR | O_CLOEXEC);
        lock_owner = getpid();
    }
    while (lock_fd >= 0 && flock(lock_fd, LOCK_EX) && errno == EINTR) continue;
}

static void lock(void) {
    pthread_mutex_lock(&mutex);
    if (machine) lock_file();
}

static void unlock(void) {
    if (lock_fd >= 0) flock(lock_fd, LOCK_UN);
    pthread_mutex_unlock(&mutex);
}

static nvmlReturn_t map(const char *path) {
    struct stat status;
    int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0) return NVML_ERROR_DRIVER_NOT_LOADED;
    if (fstat(fd, &status) || status.st_size != sizeof(State)) {
        close(fd);
        return NVML_ERROR_UNKNOWN;
    }
    State *mapped = mmap(NULL, sizeof(State), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (mapped == MAP_FAILED || mapped->magic != MAGIC || mapped->size != sizeof(State)) {
        if (mapped != MAP_FAILED) munmap(mapped, sizeof(State));
        close(fd);
        return NVML_ERROR_UNKNOWN;
    }
    machine = mapped;
    lock_fd = fd;
    lock_owner = getpid();
    snprintf(opened_path, sizeof opened_path, "%s", path);
    return NVML_SUCCESS;
}

/* Only nvmlInit may come before the machine is there; another path than last time is another machine. */
nvmlReturn_t open_machine(void) {
    const char *path = getenv("NVML_STANDIN_STATE");
    nvmlReturn_t result = NVML_SUCCESS;
    pthread_mutex_lock(&mutex);
    if (machine && (!path || strcmp(path, opened_path))) forget();
    if (!machine) result = path ? map(path) : NVML_ERROR_DRIVER_NOT_LOADED;
    if (result == NVML_SUCCESS) references++;
    pthread_mutex_unlock(&mutex);
    return result;
}

nvmlReturn_t close_machine(void) {
    pthread_mutex_lock(&mutex);
    nvmlReturn_t result = references > 0 ? NVML_SUCCESS : NVML_ERROR_UNINITIALIZED;
    if (references > 0 && --references == 0) forget();
    pthread_mutex_unlock(&mutex);
    return result;
}

EXPORT void standinForget(void) {
    pthread_mutex_lock(&mutex);
    forget();
    pthread_mutex_unlock(&mutex);
}

EXPORT const char *standinLayout(void) {
    static char text[200];
    snprintf(text, sizeof text,
             "state %zu, model %zu, profile %zu, compute profile %zu, gpu %zu, process %zu, fault %zu, entry %zu",
             sizeof(State), sizeof(Model), sizeof(Profile), sizeof(ComputeProfile), sizeof(Gpu), sizeof(Process),
             sizeof(Fault), sizeof(Entry));
    return text;
}

/* -- log ------------------------------------------------------------------------------------------------------- */

static int function_index(const char *name) {
    for (int i = 0; i < machine->function_count; i++)
        if (!strcmp(machine->functions[i].name, name)) return i;
    if (machine->function_count == MAX_FUNCTIONS) return MAX_FUNCTIONS - 1;
    int index = machine->function_count;
    snprintf(machine->functions[index].name, sizeof machine->functions[index].name, "%s", name);
    machine->functions[index].changes = 0;
    machine->function_count = index + 1;
    return index;
}

static void write_log(const Call *call, nvmlReturn_t result) {
    int function = function_index(call->name), changes = !!(call->flags & CHANGES);
    int32_t *written = changes ? &machine->change_count : &machine->read_count;
    Entry *entry = &(changes ? machine->changes : machine->reads)[*written % LOG_LENGTH];
    *entry = (Entry){*written, getpid(), function, (int)result, call->gpu, call->gi, call->ci, call->profile, call->start};
    machine->functions[function].calls++;
    machine->functions[function].changes = changes;
    ++*written;
}

/* -- faults ---------------------------------------------------------------------------------------------------- */

static int concerns(const Fault *fault, const Call *call) {
    if (!fault->used || (fault->gpu != NONE && fault->gpu != call->gpu)) return 0;
    if (!strcmp(fault->function, "change")) return !!(call->flags & CHANGES);
    if (!strcmp(fault->function, "mig")) return !!(call->flags & MIG);
    return !fnmatch(fault->function, call->name, 0);
}

/* Count the call at every fault that concerns it; return the first that strikes. */
static Fault *strike(const Call *call) {
    Fault *struck = NULL;
    for (int i = 0; i < MAX_FAULTS; i++) {
        Fault *fault = &machine->faults[i];
        if (!concerns(fault, call)) continue;
        if (fault->skip > 0) {
            fault->skip--;
        } else if (!struck) {
            struck = fault;
            fault->hits++;
            if (fault->times > 0 && --fault->times == 0) fault->used = 0;
        }
    }
    return struck;
}

static void sleep_ms(long milliseconds) {
    struct timespec left = {milliseconds / 1000, milliseconds % 1000 * 1000000};
    while (nanosleep(&left, &left) && errno == EINTR) continue;
}

static void hang(int milliseconds) {
    if (milliseconds > 0) sleep_ms(milliseconds);
    else
        while (1) pause();
}

/* Begin a call: locked on success. A result other than success is the call's answer, and nothing is locked. */
nvmlReturn_t enter(Call *call) {
    lock();
    if (!machine) {
        unlock();
        return NVML_ERROR_UNINITIALIZED;
    }
    if ((call->flags & MIG) && machine->without_mig) return leave(call, NVML_ERROR_FUNCTION_NOT_FOUND);
    Fault *fault = strike(call);
    if (!fault) return NVML_SUCCESS;
    int value = fault->value;
    unsigned before = epoch;
    switch (fault->action) {
    case RETURN_CODE:
        return leave(call, (nvmlReturn_t)value);
    case HANG:
        unlock();
        hang(value);
        lock();
        if (!machine || epoch != before) {
            unlock();
            return NVML_ERROR_UNINITIALIZED;
        }
        break;
    case KILL_BEFORE:
        kill(getpid(), SIGKILL);
        hang(0);
        break;
    case KILL_AFTER:
        call->kill_after = 1;
        break;
    case DO_NOTHING:
        call->do_nothing = 1;
        break;
    case ACTIVATION:
        call->activation = value;
        break;
    case FAIL_AFTER:
        call->fail_after = value;
        break;
    default:
        return leave(call, NVML_ERROR_UNKNOWN);
    }
    return NVML_SUCCESS;
}

nvmlReturn_t leave(Call *call, nvmlReturn_t result) {
    if (call->fail_after && result == NVML_SUCCESS) result = (nvmlReturn_t)call->fail_after;
    write_log(call, result);
    if (call->kill_after) {
        kill(getpid(), SIGKILL);
        hang(0);
    }
    unlock();
    return result;
}
