/* Which GPUs, profiles and instances a command means, and how failures are told. */
#include "smi.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int exit_code(nvmlReturn_t code) {
    return code >= 0 && code < 255 ? (int)code : 255;
}

int complain(const char *what, nvmlReturn_t code) {
    printf("%s: %s\n", what, nvmlErrorString(code));
    return exit_code(code);
}

int usage(const char *what) {
    printf("Invalid combination of input arguments. Please run 'nvidia-smi -h' for help.\n");
    fprintf(stderr, "nvidia-smi stand-in: does not know %s\n", what);
    return 2;
}

/* -- which GPUs ---------------------------------------------------------------------------------------------------- */

nvmlReturn_t add_gpu(Chosen *chosen, nvmlDevice_t device) {
    Gpu *gpu = &chosen->gpus[chosen->gpu_count];
    nvmlPciInfo_t pci;
    nvmlReturn_t code = nvmlDeviceGetPciInfo_v3(device, &pci);
    if (code == NVML_SUCCESS) code = nvmlDeviceGetIndex(device, &gpu->index);
    if (code != NVML_SUCCESS) return code;
    gpu->device = device;
    memcpy(gpu->bus_id, pci.busId, sizeof gpu->bus_id);
    chosen->gpu_count++;
    return NVML_SUCCESS;
}

int choose_all(Chosen *chosen) {
    unsigned int count = 0;
    nvmlReturn_t code = nvmlDeviceGetCount_v2(&count);
    for (unsigned int i = 0; code == NVML_SUCCESS && i < count && i < MAX_CHOSEN; i++) {
        nvmlDevice_t device;
        code = nvmlDeviceGetHandleByIndex_v2(i, &device);
        if (code == NVML_SUCCESS) code = add_gpu(chosen, device);
    }
    return code == NVML_SUCCESS ? 0 : complain("Unable to determine the device handle", code);
}

/* -i takes indices, UUIDs and PCI bus ids, separated by commas. */
int choose(Chosen *chosen, char *ids) {
    for (char *id = strtok(ids, ","); id; id = strtok(NULL, ",")) {
        nvmlDevice_t device;
        nvmlReturn_t code;
        if (!strncmp(id, "GPU-", 4)) code = nvmlDeviceGetHandleByUUID(id, &device);
        else if (strchr(id, ':')) code = nvmlDeviceGetHandleByPciBusId_v2(id, &device);
        else code = nvmlDeviceGetHandleByIndex_v2((unsigned)strtoul(id, NULL, 10), &device);
        if (code == NVML_SUCCESS && chosen->gpu_count < MAX_CHOSEN) code = add_gpu(chosen, device);
        if (code == NVML_ERROR_INVALID_ARGUMENT || code == NVML_ERROR_NOT_FOUND) {
            printf("No devices were found\n");
            return 6;
        }
        if (code != NVML_SUCCESS) {
            printf("Unable to determine the device handle for GPU %s: %s\n", id, nvmlErrorString(code));
            return exit_code(code);
        }
    }
    return 0;
}

int mig_enabled(const Gpu *gpu) {
    unsigned int current = 0, pending = 0;
    return nvmlDeviceGetMigMode(gpu->device, &current, &pending) == NVML_SUCCESS && current;
}

int keep_mig(Chosen *chosen) {
    int kept = 0;
    for (int i = 0; i < chosen->gpu_count; i++)
        if (mig_enabled(&chosen->gpus[i])) chosen->gpus[kept++] = chosen->gpus[i];
    chosen->gpu_count = kept;
    if (kept) return 0;
    printf("No MIG-enabled devices found.\n");
    return 6;
}

/* -- profiles ------------------------------------------------------------------------------------------------------ */

int gpu_profiles(const Gpu *gpu, GpuProfile *found) {
    int count = 0;
    for (unsigned int p = 0; p < 0x12; p++) {
        found[count].version = STRUCT_VERSION(GpuProfile, 2);
        count += nvmlDeviceGetGpuInstanceProfileInfoV(gpu->device, p, &found[count]) == NVML_SUCCESS;
    }
    return count;
}

int compute_profiles(nvmlGpuInstance_t instance, ComputeProfile *found) {
    int count = 0;
    for (unsigned int p = 0; p < 9; p++) {
        found[count].version = STRUCT_VERSION(ComputeProfile, 2);
        count += nvmlGpuInstanceGetComputeInstanceProfileInfoV(instance, p, 0, &found[count]) == NVML_SUCCESS;
    }
    return count;
}

/* Split "9:4" or "3g.40gb:4"; the start is ALL where none is given. */
int split_start(char *text) {
    char *colon = strrchr(text, ':');
    if (!colon) return ALL;
    *colon = 0;
    return (int)strtol(colon + 1, NULL, 10);
}

int is_number(const char *text) {
    for (; *text; text++)
        if (!isdigit((unsigned char)*text)) return 0;
    return 1;
}

int named(const char *name, unsigned int id, const char *wanted) {
    if (is_number(wanted)) return id == strtoul(wanted, NULL, 10);
    return !strcasecmp(name + strlen("MIG "), wanted) || !strcasecmp(name, wanted);
}

/* -- lists of instances -------------------------------------------------------------------------------------------- */

nvmlReturn_t gpu_instances(const Gpu *gpu, int wanted, GpuInstance *found, int *count) {
    GpuProfile profiles[0x12];
    int profile_count = gpu_profiles(gpu, profiles);
    *count = 0;
    for (int p = 0; p < profile_count; p++) {
        nvmlGpuInstance_t handles[64];
        unsigned int present = 64;
        nvmlReturn_t code = nvmlDeviceGetGpuInstances(gpu->device, profiles[p].id, handles, &present);
        if (code != NVML_SUCCESS) return code;
        for (unsigned int i = 0; i < present; i++) {
            GpuInstance *instance = &found[*count];
            code = nvmlGpuInstanceGetInfo(handles[i], &instance->info);
            if (code != NVML_SUCCESS) return code;
            instance->handle = handles[i];
            instance->profile = profiles[p];
            *count += wanted == ALL || instance->info.id == (unsigned)wanted;
        }
    }
    for (int i = 1; i < *count; i++) /* by id, as the driver lists them */
        for (int j = i; j > 0 && found[j].info.id < found[j - 1].info.id; j--) {
            GpuInstance swapped = found[j];
            found[j] = found[j - 1];
            found[j - 1] = swapped;
        }
    return *count ? NVML_SUCCESS : NVML_ERROR_NOT_FOUND;
}

nvmlReturn_t compute_instances(const GpuInstance *gi, int wanted, ComputeInstance *found, int *count) {
    ComputeProfile profiles[9];
    int profile_count = compute_profiles(gi->handle, profiles);
    *count = 0;
    for (int p = 0; p < profile_count; p++) {
        nvmlComputeInstance_t handles[16];
        unsigned int present = 16;
        nvmlReturn_t code = nvmlGpuInstanceGetComputeInstances(gi->handle, profiles[p].info.id, handles, &present);
        if (code != NVML_SUCCESS) return code;
        for (unsigned int i = 0; i < present; i++) {
            ComputeInstance *instance = &found[*count];
            code = nvmlComputeInstanceGetInfo_v2(handles[i], &instance->info);
            if (code != NVML_SUCCESS) return code;
            instance->handle = handles[i];
            instance->profile = profiles[p];
            *count += wanted == ALL || instance->info.id == (unsigned)wanted;
        }
    }
    return *count ? NVML_SUCCESS : NVML_ERROR_NOT_FOUND;
}
