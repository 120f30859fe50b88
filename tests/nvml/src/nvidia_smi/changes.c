/* `nvidia-smi mig` commands that create and destroy. */
#include "smi.h"

#include <stdio.h>
#include <string.h>

/* One compute instance: `text` is a profile with or without a start, NULL for the one that takes the whole GPU instance. */
static nvmlReturn_t create_compute(const Gpu *gpu, nvmlGpuInstance_t gi, unsigned int gi_id, const char *text) {
    ComputeProfile profiles[9];
    char wanted[64] = "", name[96];
    int count = compute_profiles(gi, profiles), chosen = ALL, start = ALL;
    nvmlComputeInstance_t instance;
    nvmlComputeInstanceInfo_t info;
    nvmlReturn_t code = NVML_ERROR_INVALID_ARGUMENT;
    if (text) {
        snprintf(wanted, sizeof wanted, "%s", text);
        start = split_start(wanted);
    }
    for (int p = 0; p < count; p++)
        if (text ? named(profiles[p].name, profiles[p].info.id, wanted)
                 : chosen == ALL || profiles[p].info.sliceCount > profiles[chosen].info.sliceCount)
            chosen = p;
    snprintf(name, sizeof name, "%s", chosen == ALL ? wanted : profiles[chosen].name);
    if (chosen != ALL && start == ALL) code = nvmlGpuInstanceCreateComputeInstance(gi, profiles[chosen].info.id, &instance);
    if (chosen != ALL && start != ALL) {
        nvmlPlacement_t placement = {(unsigned)start, profiles[chosen].info.sliceCount};
        code = nvmlGpuInstanceCreateComputeInstanceWithPlacement(gi, profiles[chosen].info.id, &placement, &instance);
    }
    if (code == NVML_SUCCESS) code = nvmlComputeInstanceGetInfo_v2(instance, &info);
    if (code != NVML_SUCCESS) {
        printf("Unable to create a compute instance on GPU %2u GPU instance ID %2u using profile %s: %s\n", gpu->index, gi_id,
               text ? text : name, nvmlErrorString(code));
        return code;
    }
    printf("Successfully created compute instance ID %2u on GPU %2u GPU instance ID %2u using profile %s (ID %2u)\n", info.id,
           gpu->index, gi_id, name, info.profileId);
    return NVML_SUCCESS;
}

static nvmlReturn_t create_one(const Gpu *gpu, const char *text, int with_compute) {
    GpuProfile profiles[0x12];
    char wanted[64];
    snprintf(wanted, sizeof wanted, "%s", text);
    int start = split_start(wanted), count = gpu_profiles(gpu, profiles), chosen = ALL;
    nvmlGpuInstance_t instance;
    nvmlGpuInstanceInfo_t info;
    nvmlReturn_t code = NVML_ERROR_INVALID_ARGUMENT;
    for (int p = 0; p < count; p++)
        if (named(profiles[p].name, profiles[p].id, wanted)) chosen = p;
    if (chosen != ALL && start == ALL) code = nvmlDeviceCreateGpuInstance(gpu->device, profiles[chosen].id, &instance);
    if (chosen != ALL && start != ALL) {
        nvmlPlacement_t possible[64] = {{0, 0}};
        unsigned int number = 64;
        code = nvmlDeviceGetGpuInstancePossiblePlacements_v2(gpu->device, profiles[chosen].id, possible, &number);
        nvmlPlacement_t placement = {(unsigned)start, possible[0].size};
        if (code == NVML_SUCCESS)
            code = nvmlDeviceCreateGpuInstanceWithPlacement(gpu->device, profiles[chosen].id, &placement, &instance);
    }
    if (code == NVML_SUCCESS) code = nvmlGpuInstanceGetInfo(instance, &info);
    if (code != NVML_SUCCESS) {
        printf("Unable to create a GPU instance on GPU %2u using profile %s: %s\n", gpu->index, wanted, nvmlErrorString(code));
        return code;
    }
    printf("Successfully created GPU instance ID %2u on GPU %2u using profile %s (ID %2u)\n", info.id, gpu->index,
           profiles[chosen].name, info.profileId);
    return with_compute ? create_compute(gpu, instance, info.id, NULL) : NVML_SUCCESS;
}

int create_gpu_instances(const Chosen *chosen, const char *list, int with_compute) {
    for (int g = 0; g < chosen->gpu_count; g++) {
        char copy[1024], *rest = copy;
        snprintf(copy, sizeof copy, "%s", list);
        for (char *item; (item = strsep(&rest, ","));) {
            nvmlReturn_t code = create_one(&chosen->gpus[g], item, with_compute);
            if (code != NVML_SUCCESS) return complain("Failed to create GPU instances", code);
        }
    }
    return 0;
}

int create_compute_instances(const Chosen *chosen, const char *list) {
    int found_any = 0;
    for (int g = 0; g < chosen->gpu_count; g++) {
        GpuInstance gis[64];
        int count;
        nvmlReturn_t code = gpu_instances(&chosen->gpus[g], chosen->gi, gis, &count);
        if (code != NVML_SUCCESS && code != NVML_ERROR_NOT_FOUND) return complain("Failed to create compute instances", code);
        for (int i = 0; i < count; i++, found_any = 1) {
            char copy[1024], *rest = copy;
            snprintf(copy, sizeof copy, "%s", list ? list : "");
            for (char *item; (item = strsep(&rest, ","));) {
                code = create_compute(&chosen->gpus[g], gis[i].handle, gis[i].info.id, list ? item : NULL);
                if (code != NVML_SUCCESS) return complain("Failed to create compute instances", code);
            }
        }
    }
    return found_any ? 0 : complain("No GPU instances found", NVML_ERROR_NOT_FOUND);
}

int destroy_compute_instances(const Chosen *chosen) {
    int found_any = 0;
    for (int g = 0; g < chosen->gpu_count; g++) {
        GpuInstance gis[64];
        int gi_count;
        nvmlReturn_t code = gpu_instances(&chosen->gpus[g], chosen->gi, gis, &gi_count);
        if (code != NVML_SUCCESS && code != NVML_ERROR_NOT_FOUND) return complain("Failed to destroy compute instances", code);
        for (int i = 0; i < gi_count; i++) {
            ComputeInstance cis[16];
            int count;
            code = compute_instances(&gis[i], chosen->ci, cis, &count);
            if (code != NVML_SUCCESS && code != NVML_ERROR_NOT_FOUND)
                return complain("Failed to destroy compute instances", code);
            for (int c = 0; c < count; c++, found_any = 1) {
                code = nvmlComputeInstanceDestroy(cis[c].handle);
                printf(code == NVML_SUCCESS ? "Successfully destroyed compute instance ID %2u from GPU %2u GPU instance ID %2u"
                                            : "Unable to destroy compute instance ID %2u from GPU %2u GPU instance ID %2u",
                       cis[c].info.id, chosen->gpus[g].index, gis[i].info.id);
                printf(code == NVML_SUCCESS ? "\n" : ": %s\n", nvmlErrorString(code));
                if (code != NVML_SUCCESS) return complain("Failed to destroy compute instances", code);
            }
        }
    }
    return found_any ? 0 : complain("No compute instances found", NVML_ERROR_NOT_FOUND);
}

int destroy_gpu_instances(const Chosen *chosen) {
    int found_any = 0;
    for (int g = 0; g < chosen->gpu_count; g++) {
        GpuInstance gis[64];
        int count;
        nvmlReturn_t code = gpu_instances(&chosen->gpus[g], chosen->gi, gis, &count);
        if (code != NVML_SUCCESS && code != NVML_ERROR_NOT_FOUND) return complain("Failed to destroy GPU instances", code);
        for (int i = 0; i < count; i++, found_any = 1) {
            code = nvmlGpuInstanceDestroy(gis[i].handle);
            printf(code == NVML_SUCCESS ? "Successfully destroyed GPU instance ID %2u from GPU %2u"
                                        : "Unable to destroy GPU instance ID %2u from GPU %2u",
                   gis[i].info.id, chosen->gpus[g].index);
            printf(code == NVML_SUCCESS ? "\n" : ": %s\n", nvmlErrorString(code));
            if (code != NVML_SUCCESS) return complain("Failed to destroy GPU instances", code);
        }
    }
    return found_any ? 0 : complain("No GPU instances found", NVML_ERROR_NOT_FOUND);
}
