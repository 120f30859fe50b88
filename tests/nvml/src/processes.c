/* Processes that run on GPUs and instances. */
#include "call.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

/* Whether an entry counts; with only_while_alive it does as long as its process lives (a zombie does not). */
int alive(const Process *process) {
    if (!process->used) return 0;
    if (!process->only_while_alive) return 1;
    char path[40], status = 0;
    snprintf(path, sizeof path, "/proc/%d/stat", process->pid);
    FILE *file = fopen(path, "re");
    if (!file) return 0;
    if (fscanf(file, "%*d (%*[^)]) %c", &status) != 1) status = 0;
    fclose(file);
    return status && status != 'Z' && status != 'X';
}

int busy(int gpu, int gi, int ci) {
    int count = 0;
    for (int i = 0; i < MAX_PROCESSES; i++) {
        const Process *process = &machine->processes[i];
        count += process->gpu == gpu && (gi == NONE || process->gi == gi) && (ci == NONE || process->ci == ci) && alive(process);
    }
    return count;
}

/* Whether a process has the whole GPU open, outside of any instance (an X server, a profiler): no instance is created then. */
int held(int gpu) {
    int count = 0;
    for (int i = 0; i < MAX_PROCESSES; i++) {
        const Process *process = &machine->processes[i];
        count += process->gpu == gpu && process->gi == NONE && process->kind != MONITOR && alive(process);
    }
    return count;
}

static nvmlReturn_t list_processes(Call *call, nvmlDevice_t device, int kind, unsigned int *count, nvmlProcessInfo_t *found) {
    Object object;
    nvmlReturn_t result = resolve(call, device, kind_of(device) == MIG_HANDLE ? MIG_HANDLE : DEVICE_HANDLE, &object);
    if (result != NVML_SUCCESS) return result;
    if (!count) return NVML_ERROR_INVALID_ARGUMENT;
    unsigned int room = *count, needed = 0;
    for (int i = 0; i < MAX_PROCESSES; i++) {
        const Process *process = &machine->processes[i];
        if (process->gpu != object.gpu_index || process->kind != kind || !alive(process)) continue;
        if (object.ci && (process->gi != object.gi->id || process->ci != object.ci->id)) continue;
        if (needed < room && found)
            found[needed] = (nvmlProcessInfo_t){(unsigned)process->pid, (unsigned long long)process->memory_mib << 20,
                                                (unsigned)process->gi, (unsigned)process->ci};
        needed++;
    }
    *count = needed;
    return needed && (needed > room || !found) ? NVML_ERROR_INSUFFICIENT_SIZE : NVML_SUCCESS;
}

#define PROCESS_LIST(name, kind)                                                                                   \
    EXPORT nvmlReturn_t name(nvmlDevice_t device, unsigned int *count, nvmlProcessInfo_t *found) {                 \
        BEGIN(device, READS);                                                                                      \
        END(list_processes(&call, device, kind, count, found));                                                    \
    }

PROCESS_LIST(nvmlDeviceGetComputeRunningProcesses_v2, COMPUTE)
PROCESS_LIST(nvmlDeviceGetComputeRunningProcesses_v3, COMPUTE)
PROCESS_LIST(nvmlDeviceGetGraphicsRunningProcesses_v2, GRAPHICS)
PROCESS_LIST(nvmlDeviceGetGraphicsRunningProcesses_v3, GRAPHICS)
PROCESS_LIST(nvmlDeviceGetMPSComputeRunningProcesses_v2, MPS)
PROCESS_LIST(nvmlDeviceGetMPSComputeRunningProcesses_v3, MPS)

EXPORT nvmlReturn_t nvmlSystemGetProcessName(unsigned int pid, char *name, unsigned int length) {
    BEGIN(NULL, READS);
    REQUIRE(name && length, NVML_ERROR_INVALID_ARGUMENT);
    for (int i = 0; i < MAX_PROCESSES; i++) {
        const Process *process = &machine->processes[i];
        if (process->pid != (int)pid || !alive(process)) continue;
        snprintf(name, length, "%s", process->name);
        END(NVML_SUCCESS);
    }
    END(NVML_ERROR_NOT_FOUND);
}
