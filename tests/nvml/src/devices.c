/* Handles of devices and queries of one device; most answer for MIG devices too. */
#include "call.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* -- handles ------------------------------------------------------------------------------------------------------ */

EXPORT nvmlReturn_t nvmlDeviceGetHandleByIndex_v2(unsigned int index, nvmlDevice_t *device) {
    BEGIN((void *)(uintptr_t)handle_of(DEVICE_HANDLE, (int)(index & 0xff), 0, 0, 0), READS);
    REQUIRE(device && index < (unsigned)machine->gpu_count, NVML_ERROR_INVALID_ARGUMENT);
    END(hand_out(&call, (int)index, device));
}

EXPORT nvmlReturn_t nvmlDeviceGetHandleByUUID(const char *uuid, nvmlDevice_t *device) {
    BEGIN(NULL, READS);
    REQUIRE(uuid && device, NVML_ERROR_INVALID_ARGUMENT);
    for (int g = 0; g < machine->gpu_count; g++) {
        Gpu *gpu = &machine->gpus[g];
        if (!strcmp(gpu->uuid, uuid)) END(hand_out(&call, g, device));
        for (int i = 0; i < MAX_GPU_INSTANCES; i++)
            for (int c = 0; gpu->instances[i].used && c < MAX_COMPUTE_INSTANCES; c++) {
                char text[96];
                if (!gpu->instances[i].compute[c].used) continue;
                mig_uuid(gpu, &gpu->instances[i], &gpu->instances[i].compute[c], text, sizeof text);
                if (strcmp(text, uuid)) continue;
                CHECK(hand_out(&call, g, device));
                *device = (nvmlDevice_t)(uintptr_t)mig_handle(g, i, c);
                END(NVML_SUCCESS);
            }
    }
    END(NVML_ERROR_NOT_FOUND);
}

EXPORT nvmlReturn_t nvmlDeviceGetHandleByPciBusId_v2(const char *bus_id, nvmlDevice_t *device) {
    BEGIN(NULL, READS);
    unsigned int domain, bus, number;
    REQUIRE(bus_id && device, NVML_ERROR_INVALID_ARGUMENT);
    REQUIRE(sscanf(bus_id, "%x:%x:%x", &domain, &bus, &number) == 3, NVML_ERROR_INVALID_ARGUMENT);
    for (int g = 0; g < machine->gpu_count; g++) {
        const Gpu *gpu = &machine->gpus[g];
        if (gpu->domain == (int)domain && gpu->bus == (int)bus && gpu->device == (int)number)
            END(hand_out(&call, g, device));
    }
    END(NVML_ERROR_NOT_FOUND);
}

/* -- queries ------------------------------------------------------------------------------------------------------ */

static nvmlReturn_t resolve_any(Call *call, nvmlDevice_t device, Object *object) {
    return resolve(call, device, kind_of(device) == MIG_HANDLE ? MIG_HANDLE : DEVICE_HANDLE, object);
}

EXPORT nvmlReturn_t nvmlDeviceGetUUID(nvmlDevice_t device, char *uuid, unsigned int length) {
    BEGIN(device, READS);
    Object object;
    char text[96];
    CHECK(resolve_any(&call, device, &object));
    if (object.ci) mig_uuid(object.gpu, object.gi, object.ci, text, sizeof text);
    else snprintf(text, sizeof text, "%s", object.gpu->uuid);
    END(give(text, uuid, length));
}

EXPORT nvmlReturn_t nvmlDeviceGetName(nvmlDevice_t device, char *name, unsigned int length) {
    BEGIN(device, READS);
    Object object;
    char text[200];
    CHECK(resolve_any(&call, device, &object));
    if (!object.ci) END(give(object.model->name, name, length));
    if (object.compute_profile->slices < object.profile->slices)
        snprintf(text, sizeof text, "%s MIG %dc.%s", object.model->name, object.compute_profile->slices, object.profile->name);
    else snprintf(text, sizeof text, "%s MIG %s", object.model->name, object.profile->name);
    END(give(text, name, length));
}

EXPORT nvmlReturn_t nvmlDeviceGetSerial(nvmlDevice_t device, char *serial, unsigned int length) {
    BEGIN(device, READS);
    Object object;
    CHECK(resolve_any(&call, device, &object));
    END(give(object.gpu->serial, serial, length));
}

EXPORT nvmlReturn_t nvmlDeviceGetPciInfo_v3(nvmlDevice_t device, nvmlPciInfo_t *info) {
    BEGIN(device, READS);
    Object object;
    CHECK(resolve_any(&call, device, &object));
    REQUIRE(info, NVML_ERROR_INVALID_ARGUMENT);
    const Gpu *gpu = object.gpu;
    memset(info, 0, sizeof *info);
    info->domain = (unsigned)gpu->domain;
    info->bus = (unsigned)gpu->bus;
    info->device = (unsigned)gpu->device;
    info->pciDeviceId = (unsigned)object.model->pci_device_id << 16 | 0x10deu;
    info->pciSubSystemId = 0x146310deu;
    unsigned int bus = info->bus & 0xff, number = info->device & 0xff;
    snprintf(info->busIdLegacy, sizeof info->busIdLegacy, "%04X:%02X:%02X.0", info->domain & 0xffff, bus, number);
    snprintf(info->busId, sizeof info->busId, "%08X:%02X:%02X.0", info->domain, bus, number);
    END(NVML_SUCCESS);
}

/* Queries of one number of the whole GPU. */
#define NUMBER(name, type, expression)                                                                             \
    EXPORT nvmlReturn_t name(nvmlDevice_t device, type *value) {                                                   \
        BEGIN(device, READS);                                                                                      \
        Object object;                                                                                             \
        CHECK(resolve_any(&call, device, &object));                                                                \
        REQUIRE(value, NVML_ERROR_INVALID_ARGUMENT);                                                               \
        *value = (type)(expression);                                                                               \
        END(NVML_SUCCESS);                                                                                         \
    }

/* A MIG device's index is its place among the MIG devices of its GPU. */
static int index_of(const Object *object) {
    int gi_slot, ci_slot;
    for (int n = 0; object->ci && mig_device(object->gpu, n, &gi_slot, &ci_slot); n++)
        if (gi_slot == object->gi_slot && ci_slot == object->ci_slot) return n;
    return object->gpu_index;
}

NUMBER(nvmlDeviceGetIndex, unsigned int, index_of(&object))
NUMBER(nvmlDeviceGetMinorNumber, unsigned int, object.gpu->minor)
NUMBER(nvmlDeviceGetArchitecture, unsigned int, object.model->architecture)
NUMBER(nvmlDeviceGetPersistenceMode, unsigned int, object.gpu->persistence)
NUMBER(nvmlDeviceGetBoardId, unsigned int, object.gpu->bus << 8)

EXPORT nvmlReturn_t nvmlDeviceGetEccMode(nvmlDevice_t device, unsigned int *current, unsigned int *pending) {
    BEGIN(device, READS);
    Object object;
    CHECK(resolve_any(&call, device, &object));
    REQUIRE(current && pending, NVML_ERROR_INVALID_ARGUMENT);
    *current = *pending = (unsigned)object.gpu->ecc;
    END(NVML_SUCCESS);
}

EXPORT nvmlReturn_t nvmlDeviceSetPersistenceMode(nvmlDevice_t device, unsigned int mode) {
    BEGIN(device, CHANGES | PRIVILEGED);
    Object object;
    CHECK(resolve(&call, device, DEVICE_HANDLE, &object));
    PRIVILEGE();
    REQUIRE(mode <= 1, NVML_ERROR_INVALID_ARGUMENT);
    if (!call.do_nothing) object.gpu->persistence = (int)mode;
    END(NVML_SUCCESS);
}

/* GPUs do not report utilization in MIG mode. */
EXPORT nvmlReturn_t nvmlDeviceGetUtilizationRates(nvmlDevice_t device, nvmlUtilization_t *rates) {
    BEGIN(device, READS);
    Object object;
    CHECK(resolve_any(&call, device, &object));
    REQUIRE(rates, NVML_ERROR_INVALID_ARGUMENT);
    REQUIRE(!object.gpu->mode, NVML_ERROR_NOT_SUPPORTED);
    *rates = (nvmlUtilization_t){busy(object.gpu_index, NONE, NONE) ? 50 : 0, 0};
    END(NVML_SUCCESS);
}

static nvmlMemory_v2_t memory_of(const Object *object) {
    nvmlMemory_v2_t memory = {0};
    unsigned long long used = 0, reserved = 512;
    for (int i = 0; i < MAX_PROCESSES; i++) {
        const Process *process = &machine->processes[i];
        if (process->gpu != object->gpu_index || !alive(process)) continue;
        if (!object->ci || process->gi == object->gi->id) used += (unsigned long long)process->memory_mib;
    }
    unsigned long long total = (unsigned long long)(object->ci ? object->profile->memory_mib : object->model->memory_mib);
    if (object->ci) reserved = 0;
    memory.total = total << 20;
    memory.reserved = reserved << 20;
    memory.used = used << 20;
    memory.free = (total > used + reserved ? total - used - reserved : 0) << 20;
    return memory;
}

EXPORT nvmlReturn_t nvmlDeviceGetMemoryInfo(nvmlDevice_t device, nvmlMemory_t *memory) {
    BEGIN(device, READS);
    Object object;
    CHECK(resolve_any(&call, device, &object));
    REQUIRE(memory, NVML_ERROR_INVALID_ARGUMENT);
    nvmlMemory_v2_t all = memory_of(&object);
    *memory = (nvmlMemory_t){all.total, all.free, all.used + all.reserved};
    END(NVML_SUCCESS);
}

EXPORT nvmlReturn_t nvmlDeviceGetMemoryInfo_v2(nvmlDevice_t device, nvmlMemory_v2_t *memory) {
    BEGIN(device, READS);
    Object object;
    CHECK(resolve_any(&call, device, &object));
    REQUIRE(memory, NVML_ERROR_INVALID_ARGUMENT);
    REQUIRE(memory->version == STRUCT_VERSION(nvmlMemory_v2_t, 2), NVML_ERROR_ARGUMENT_VERSION_MISMATCH);
    unsigned int version = memory->version;
    *memory = memory_of(&object);
    memory->version = version;
    END(NVML_SUCCESS);
}

EXPORT nvmlReturn_t nvmlDeviceGetAttributes_v2(nvmlDevice_t device, nvmlDeviceAttributes_t *attributes) {
    BEGIN(device, READS | MIG);
    Object object;
    CHECK(resolve_any(&call, device, &object));
    REQUIRE(attributes, NVML_ERROR_INVALID_ARGUMENT);
    REQUIRE(object.ci, NVML_ERROR_NOT_SUPPORTED);
    const Profile *profile = object.profile;
    *attributes = (nvmlDeviceAttributes_t){
        (unsigned)object.compute_profile->multiprocessors, (unsigned)profile->copy_engines, (unsigned)profile->engines[0],
        (unsigned)profile->engines[1], (unsigned)profile->engines[2], (unsigned)profile->engines[3],
        (unsigned)profile->slices, (unsigned)object.compute_profile->slices, (unsigned long long)profile->memory_mib};
    END(NVML_SUCCESS);
}
