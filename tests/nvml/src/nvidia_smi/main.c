/* A stand-in for nvidia-smi: commands that set MIG up and show it; the exit status is NVML's code (255: others). */
#include "smi.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

EXPORT nvmlReturn_t standinResetGpu(unsigned int index);

static int run_mig(int argc, char **argv, Chosen *chosen) {
    const char *action = NULL, *list = NULL;
    int with_compute = 0, code = 0;
    for (int i = 0; i < argc; i++) {
        char *value = i + 1 < argc ? argv[i + 1] : NULL;
        if (!strcmp(argv[i], "-i") && value) code = choose(chosen, argv[++i]);
        else if (!strcmp(argv[i], "-gi") && value) chosen->gi = atoi(argv[++i]);
        else if (!strcmp(argv[i], "-ci") && value) chosen->ci = atoi(argv[++i]);
        else if (!strcmp(argv[i], "-C")) with_compute = 1;
        else if (!strcmp(argv[i], "-cgi") && value) action = argv[i], list = argv[++i];
        else if (!strcmp(argv[i], "-cci")) {
            action = argv[i];
            if (value && value[0] != '-') list = argv[++i];
        } else action = argv[i];
        if (code) return code;
    }
    if (!chosen->gpu_count && (code = choose_all(chosen))) return code;
    if (!action) return usage("mig without an action");
    if (!strcmp(action, "-lgip")) return list_profiles(chosen);
    if (!strcmp(action, "-lgipp")) return list_placements(chosen);
    if ((code = keep_mig(chosen))) return code;
    if (!strcmp(action, "-lgi")) return list_gpu_instances(chosen);
    if (!strcmp(action, "-lci")) return list_compute_instances(chosen);
    if (!strcmp(action, "-cgi")) return create_gpu_instances(chosen, list, with_compute);
    if (!strcmp(action, "-cci")) return create_compute_instances(chosen, list);
    if (!strcmp(action, "-dci")) return destroy_compute_instances(chosen);
    if (!strcmp(action, "-dgi")) return destroy_gpu_instances(chosen);
    return usage(action);
}

/* -- nvidia-smi: mode, reset, lists ----------------------------------------------------------------------------------- */

static int set_mode(const Chosen *chosen, const char *text) {
    int worst = 0;
    if (strcmp(text, "0") && strcmp(text, "1")) return usage("this MIG mode");
    int wanted = text[0] == '1';
    for (int g = 0; g < chosen->gpu_count; g++) {
        const Gpu *gpu = &chosen->gpus[g];
        nvmlReturn_t activation = NVML_SUCCESS, code = nvmlDeviceSetMigMode(gpu->device, (unsigned)wanted, &activation);
        if (code != NVML_SUCCESS) {
            printf("Unable to %s MIG Mode for GPU %s: %s\n", wanted ? "enable" : "disable", gpu->bus_id, nvmlErrorString(code));
            worst = exit_code(code);
        } else if (activation == NVML_SUCCESS) {
            printf("%s MIG Mode for GPU %s\n", wanted ? "Enabled" : "Disabled", gpu->bus_id);
        } else {
            printf("Warning: MIG mode is in pending %s state for GPU %s:%s\n", wanted ? "enable" : "disable", gpu->bus_id,
                   nvmlErrorString(activation));
            if (activation == NVML_ERROR_IN_USE)
                printf("%s is currently being used by one or more other processes (e.g. CUDA application or a monitoring"
                       " application such as another instance of nvidia-smi). Please first kill all processes using the device"
                       " and retry the command or reboot the system to make MIG mode effective.\n", gpu->bus_id);
            else
                printf("Reboot the system or try nvidia-smi --gpu-reset to make MIG mode effective on GPU %s\n", gpu->bus_id);
        }
    }
    if (!worst) printf("All done.\n");
    return worst;
}

static int reset(const Chosen *chosen) {
    for (int g = 0; g < chosen->gpu_count; g++) {
        const Gpu *gpu = &chosen->gpus[g];
        nvmlReturn_t code = standinResetGpu(gpu->index);
        if (code == NVML_ERROR_NOT_SUPPORTED) printf("Resetting GPU %s is not supported.\n", gpu->bus_id);
        else if (code != NVML_SUCCESS)
            printf("The following GPUs could not be reset:\n  GPU %s: %s\n", gpu->bus_id, nvmlErrorString(code));
        if (code != NVML_SUCCESS) return exit_code(code);
        printf("GPU %s was successfully reset.\n", gpu->bus_id);
    }
    printf("All done.\n");
    return 0;
}

static int list_devices(const Chosen *chosen) {
    for (int g = 0; g < chosen->gpu_count; g++) {
        char name[96], uuid[96];
        unsigned int count = 0;
        nvmlReturn_t code = nvmlDeviceGetName(chosen->gpus[g].device, name, sizeof name);
        if (code == NVML_SUCCESS) code = nvmlDeviceGetUUID(chosen->gpus[g].device, uuid, sizeof uuid);
        if (code != NVML_SUCCESS) return complain("Unable to list devices", code);
        printf("GPU %u: %s (UUID: %s)\n", chosen->gpus[g].index, name, uuid);
        nvmlDeviceGetMaxMigDeviceCount(chosen->gpus[g].device, &count);
        for (unsigned int i = 0; i < count; i++) {
            nvmlDevice_t mig;
            if (nvmlDeviceGetMigDeviceHandleByIndex(chosen->gpus[g].device, i, &mig) != NVML_SUCCESS) continue;
            if (nvmlDeviceGetName(mig, name, sizeof name) != NVML_SUCCESS) continue;
            if (nvmlDeviceGetUUID(mig, uuid, sizeof uuid) != NVML_SUCCESS) continue;
            const char *profile = strstr(name, " MIG ");
            printf("  MIG %-11s Device %2u: (UUID: %s)\n", profile ? profile + 5 : name, i, uuid);
        }
    }
    return 0;
}

/* The text of one field of --query-gpu; 0 where the field is not known here. */
static int field_of(const Gpu *gpu, const char *field, char *text, size_t length) {
    unsigned int current = 0, pending = 0;
    nvmlPciInfo_t pci;
    nvmlMemory_t memory = {0, 0, 0};
    text[0] = 0;
    if (!strcmp(field, "index")) snprintf(text, length, "%u", gpu->index);
    else if (!strcmp(field, "name")) nvmlDeviceGetName(gpu->device, text, (unsigned)length);
    else if (!strcmp(field, "uuid")) nvmlDeviceGetUUID(gpu->device, text, (unsigned)length);
    else if (!strcmp(field, "serial")) nvmlDeviceGetSerial(gpu->device, text, (unsigned)length);
    else if (!strcmp(field, "driver_version")) nvmlSystemGetDriverVersion(text, (unsigned)length);
    else if (!strcmp(field, "pci.bus_id")) snprintf(text, length, "%s", gpu->bus_id);
    else if (!strcmp(field, "pci.device_id") && nvmlDeviceGetPciInfo_v3(gpu->device, &pci) == NVML_SUCCESS)
        snprintf(text, length, "0x%08X", pci.pciDeviceId);
    else if (!strcmp(field, "memory.total") && nvmlDeviceGetMemoryInfo(gpu->device, &memory) == NVML_SUCCESS)
        snprintf(text, length, "%llu MiB", memory.total >> 20);
    else if (!strcmp(field, "mig.mode.current") || !strcmp(field, "mig.mode.pending")) {
        if (nvmlDeviceGetMigMode(gpu->device, &current, &pending) != NVML_SUCCESS) snprintf(text, length, "[N/A]");
        else snprintf(text, length, (strstr(field, "pending") ? pending : current) ? "Enabled" : "Disabled");
    } else return 0;
    return 1;
}

static int query(const Chosen *chosen, const char *fields, const char *format) {
    if (!format || strncmp(format, "csv", 3)) return usage("--query-gpu without --format=csv");
    if (!strstr(format, "noheader")) printf("%s\n", fields);
    for (int g = 0; g < chosen->gpu_count; g++) {
        char copy[512], *rest = copy, text[128];
        snprintf(copy, sizeof copy, "%s", fields);
        for (char *field; (field = strsep(&rest, ","));) {
            while (*field == ' ') field++;
            if (!field_of(&chosen->gpus[g], field, text, sizeof text)) {
                printf("Field \"%s\" is not a valid field to query.\n", field);
                return 2;
            }
            printf("%s%s", text, rest ? ", " : "\n");
        }
    }
    return 0;
}

static int run(int argc, char **argv) {
    Chosen chosen = {.gi = ALL, .ci = ALL};
    const char *mode = NULL, *fields = NULL, *format = NULL;
    int code = 0, resets = 0;
    if (argc > 1 && !strcmp(argv[1], "mig")) return run_mig(argc - 2, argv + 2, &chosen);
    for (int i = 1; i < argc; i++) {
        char *value = i + 1 < argc ? argv[i + 1] : NULL;
        if (!strcmp(argv[i], "-i") && value) code = choose(&chosen, argv[++i]);
        else if (!strncmp(argv[i], "--id=", 5)) code = choose(&chosen, argv[i] + 5);
        else if (!strcmp(argv[i], "-mig") && value) mode = argv[++i];
        else if (!strcmp(argv[i], "--gpu-reset") || !strcmp(argv[i], "-r")) resets = 1;
        else if (!strncmp(argv[i], "--query-gpu=", 12)) fields = argv[i] + 12;
        else if (!strncmp(argv[i], "--format=", 9)) format = argv[i] + 9;
        else if (strcmp(argv[i], "-L")) return usage(argv[i]);
        if (code) return code;
    }
    if (!chosen.gpu_count && (code = choose_all(&chosen))) return code;
    if (mode) return set_mode(&chosen, mode);
    if (resets) return reset(&chosen);
    if (fields) return query(&chosen, fields, format);
    return list_devices(&chosen);
}

int main(int argc, char **argv) {
    nvmlReturn_t code = nvmlInit_v2();
    if (code != NVML_SUCCESS) {
        if (code == NVML_ERROR_DRIVER_NOT_LOADED)
            printf("NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. Make sure that the latest"
                   " NVIDIA driver is installed and running.\n\n");
        else printf("Failed to initialize NVML: %s\n", nvmlErrorString(code));
        return exit_code(code);
    }
    int status = run(argc, argv);
    nvmlShutdown();
    return status;
}
